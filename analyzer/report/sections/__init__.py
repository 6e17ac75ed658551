"""The sections of the document, each made from what an audit found."""
