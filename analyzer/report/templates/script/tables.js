// Every table but the packed one: a search, a filter for columns that ask for one, and headings that sort.
const cellText = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
const enhance = (table) => {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const fixed = [...body.rows].filter((row) => row.cells.length < heads.length);
  const rows = [...body.rows].filter((row) => row.cells.length === heads.length);
  if (rows.length < 2) return;
  const texts = new Map(rows.map((row) => [row, cellText(row).toLowerCase()]));
  const name = cellText(table.caption);
  const tools = make("div", "tools");
  const count = make("p", "", "");
  count.setAttribute("role", "status");
  const search = make("input");
  const choices = [];

  const show = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const fits = terms.every((term) => texts.get(row).includes(term))
        && choices.every(([column, select]) => !select.value || cellText(row.cells[column]) === select.value);
      row.hidden = !fits;
      left += fits;
    }
    for (const row of fixed) row.hidden = left < rows.length;
    count.textContent = left < rows.length ? `${number(left)} of ${number(rows.length)}` : "";
  };

  const field = (text, control, className) => {
    const label = make("label", className, text);
    label.append(" ", control);
    tools.append(label);
  };
  if (rows.length > 4) {
    search.type = "search";
    search.autocomplete = "off";
    search.spellcheck = false;
    search.setAttribute("aria-label", `Search: ${name}`);
    search.addEventListener("input", delayed(show));
    field("Search", search, "search");
    heads.forEach((head, column) => {
      if (!("filter" in head.dataset)) return;
      const values = new Map();
      for (const row of rows) values.set(cellText(row.cells[column]), row.cells[column].dataset.v ?? cellText(row.cells[column]));
      if (values.size < 2 || values.size > 40) return;
      const select = make("select");
      select.append(make("option", "", "all"));
      select.options[0].value = "";
      for (const [text] of [...values].sort((a, b) => collator.compare(a[1], b[1]))) {
        const option = make("option", "", text === "" ? "none" : text);
        option.value = text;
        select.append(option);
      }
      select.addEventListener("change", show);
      choices.push([column, select]);
      field(cellText(head), select, "");
    });
    tools.append(count);
    table.closest(".table").before(tools);
  }

  heads.forEach((head, column) => {
    if (head.dataset.type === "none") return;
    const button = make("button", "");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.dataset.type === "number" || head.dataset.type === "rank";
    const key = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.v ?? cellText(cell);
      return numeric ? Number(text.replaceAll(",", "")) || 0 : text;
    };
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keys = new Map(rows.map((row) => [row, key(row)]));
      const compare = numeric ? (a, b) => a - b : (a, b) => collator.compare(a, b);
      rows.sort((a, b) => (descending ? -1 : 1) * compare(keys.get(a), keys.get(b)));
      body.append(...rows, ...fixed);
    });
  });
};
for (const table of every("table[data-table]")) enhance(table);
