"""Mutation fuzzing of every reader and decoder: ``make fuzz``; a short run is part of the tests."""
