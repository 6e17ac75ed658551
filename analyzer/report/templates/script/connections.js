// The connections come packed: one look at each distinct text instead of one at each row.
const data = JSON.parse(find("#connection-data").textContent);
const PAGE = 100;
const LOOKS = {
  encrypted: ["✓", "good"], presented: ["✓", "good"], verified: ["✓", "good"], refused: ["✓", "good"],
  cleartext: ["✗", "risk"], unverified: ["✗", "risk"], absent: ["-", "plain"], undecidable: ["?", "open"],
};
const QUESTIONS = ["encryption", "client_certificate", "server_verification"];
const DETAILS = {
  encryption_reason: "Encryption, because", client_certificate_reason: "Client certificate, because",
  server_verification_reason: "Server check, because", channel_reason: "Channel, because", sni: "Server name",
  alpn: "ALPN", handshake: "Handshake", cipher_suite: "Cipher suite", group: "Group", client_stack: "Client stack",
  ja4: "JA4", server_certificate: "Server certificate", client_certificate_subject: "Client certificate subject",
  user_agent: "User agent", activity: "Activity", http_statuses: "Answers", credentials: "Credentials", decryption: "Decryption",
  hassh: "HASSH", hassh_server: "HASSH of the server", ssh_algorithms: "SSH algorithms", ssh_weak: "Weak in SSH",
  carried_by: "Inside row", encapsulation: "Encapsulation", duration_s: "Seconds",
};

const connections = () => {
  // Which of a text column's distinct values a row has: by its kind, by the row, by another column, or there is one.
  const code = (column, at) =>
    column.kinds ? column.kinds[data.kind[at]] : column.rows ? column.rows[at]
    : column.of ? column.map[code(data.columns[column.of], at)] : 0;
  const value = (name, at) => {
    const column = data.columns[name];
    if (column.numbers) return column.numbers[at];
    return "number" in column ? column.number : column.values[code(column, at)];
  };
  const place = new Map(data.row.map((row, at) => [row, at]));
  const query = find("#query");
  const filters = new Map();
  const option = (select, text, shown) => {
    const element = make("option", "", shown);
    element.value = text;
    select.append(element);
  };
  for (const name of ["channel", ...QUESTIONS]) {
    const select = find(`#filter-${name}`);
    for (const text of [...data.columns[name].values].sort()) option(select, text, name === "channel" ? data.titles[text] ?? text : text);
    filters.set(name, select);
  }
  const ofFinding = new Map();
  const findings = find("#filter-finding");
  for (const finding of data.findings) {
    option(findings, finding.anchor, finding.title);
    ofFinding.set(finding.anchor, finding.rows);
  }

  let only = null;
  let sorting = { name: "", descending: false };
  let matching = [];
  let shown = 0;
  const body = find("#rows tbody");

  const matcher = (term) => {
    const tests = [];
    for (const [name, column] of Object.entries(data.columns)) {
      if (column.numbers || "number" in column) {
        if (name.endsWith("_port")) tests.push((at) => String(value(name, at)) === term);
        continue;
      }
      const hits = column.values.map((text) =>
        text.toLowerCase().includes(term) || (name === "channel" && (data.titles[text] ?? "").toLowerCase().includes(term)));
      if (hits.some(Boolean)) tests.push((at) => hits[code(column, at)]);
    }
    return (at) => tests.some((test) => test(at));
  };
  const select = () => {
    const tests = query.value.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
    for (const [name, choice] of filters) {
      if (!choice.value) continue;
      const column = data.columns[name];
      const wanted = column.values.indexOf(choice.value);
      tests.unshift((at) => code(column, at) === wanted);
    }
    if (findings.value) {
      const wanted = new Set(ofFinding.get(findings.value));
      tests.unshift((at) => wanted.has(data.row[at]));
    }
    if (only !== null) tests.unshift((at) => data.row[at] === only);
    const rows = [];
    for (let at = 0; at < data.count; at += 1) if (tests.every((test) => test(at))) rows.push(at);
    if (sorting.name) {
      const key = sorting.name === "row" ? (at) => data.row[at]
        : /_name$/.test(sorting.name) ? (at) => value(sorting.name, at) || value(sorting.name.replace("_name", "_ip"), at)
        : sorting.name === "channel" ? (at) => data.titles[value("channel", at)] ?? "" : (at) => value(sorting.name, at);
      const keys = new Map(rows.map((at) => [at, key(at)]));
      const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));
      rows.sort((a, b) => (sorting.descending ? -1 : 1) * compare(keys.get(a), keys.get(b)) || a - b);
    }
    return rows;
  };

  const host = (at, side) => {
    const cell = make("td", "host");
    const [name, address, port] = ["name", "ip", "port"].map((part) => value(`${side}_${part}`, at));
    const end = `${address.includes(":") ? `[${address}]` : address}:${port}`;
    if (name) cell.append(name, make("span", "sub", end));
    else cell.append(end);
    return cell;
  };
  const answer = (at, question) => {
    const text = value(question, at);
    const [mark, tone] = LOOKS[text] ?? ["?", "open"];
    const cell = make("td");
    const strong = make("span", `answer ${tone}`);
    const sign = make("span", "mark", mark);
    sign.setAttribute("aria-hidden", "true");
    strong.append(sign, text);
    cell.append(strong, " ", make("span", "grade", value(`${question}_grade`, at)));
    return cell;
  };
  const withNote = (text, note) => {
    const cell = make("td", "", text);
    if (note) cell.append(make("span", "sub", note));
    return cell;
  };
  const details = (at) => {
    const list = make("dl", "facts");
    const add = (title, content) => {
      const pair = make("div");
      const shownAs = make("dd", "host");
      shownAs.append(content);
      pair.append(make("dt", "", title), shownAs);
      list.append(pair);
    };
    for (const [name, title] of Object.entries(DETAILS)) {
      const text = name in data.columns ? value(name, at) : "";
      if (text !== "" && text !== -1) add(title, String(text));
    }
    const link = make("a", "", `#connections?row=${data.row[at]}`);
    link.href = link.textContent;
    add("Link to this connection", link);
    const cell = make("td");
    cell.colSpan = 11;
    cell.append(list);
    const row = make("tr");
    row.append(cell);
    return row;
  };
  const line = (at) => {
    const row = make("tr");
    const button = make("button", "row", number(data.row[at]));
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Row ${data.row[at]}, details`);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      if (open) row.nextElementSibling.remove();
      else row.after(details(at));
      button.setAttribute("aria-expanded", String(!open));
    });
    const first = make("td", "right");
    first.append(button);
    const leg = value("leg_of", at);
    row.append(
      first, host(at, "client"), host(at, "server"),
      withNote(data.titles[value("channel", at)] ?? value("channel", at), leg >= 0 ? `second leg of row ${leg}` : ""),
      withNote(`${value("protocol", at)} ${value("tls_version", at)}`, value("sni", at)),
      ...QUESTIONS.map((question) => answer(at, question)),
      make("td", "right", String(value("first_frame", at))),
      make("td", "right", number(value("packets", at))), make("td", "right", number(value("octets", at))),
    );
    return row;
  };

  const more = find("#more");
  const reset = find("#reset");
  const extend = () => {
    body.append(...matching.slice(shown, shown + PAGE).map(line));
    shown = Math.min(shown + PAGE, matching.length);
    more.hidden = shown >= matching.length;
    find("#matches").textContent = `${number(matching.length)} of ${number(data.count)} rows match, ${number(shown)} shown`;
  };
  const update = () => {
    matching = select();
    shown = 0;
    reset.hidden = matching.length === data.count;
    body.replaceChildren();
    extend();
  };

  // What is filtered stands in the address, so that it can be sent to someone else.
  const state = () => {
    const parameters = new URLSearchParams();
    if (query.value) parameters.set("q", query.value);
    for (const [name, choice] of [...filters, ["finding", findings]]) if (choice.value) parameters.set(name, choice.value);
    if (only !== null) parameters.set("row", String(only));
    return parameters.toString();
  };
  const remember = () => {
    const text = state();
    history.replaceState(null, "", text ? `#connections?${text}` : "#connections");
  };
  const apply = (text) => {
    const parameters = new URLSearchParams(text);
    query.value = parameters.get("q") ?? "";
    for (const [name, choice] of [...filters, ["finding", findings]]) {
      choice.value = parameters.get(name) ?? "";
      if (choice.selectedIndex < 0) choice.value = "";
    }
    const row = parameters.get("row");
    only = row !== null && place.has(Number(row)) ? Number(row) : null;
    update();
    if (only !== null) find("button.row", body)?.click();
    find("#controls").scrollIntoView({ block: "start" });
  };
  const follow = () => {
    if (location.hash.startsWith("#connections?")) apply(location.hash.slice("#connections?".length));
  };

  for (const head of every("#rows th[data-sort]")) {
    const button = make("button", "", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const again = sorting.name === head.dataset.sort;
      sorting = { name: head.dataset.sort, descending: again && !sorting.descending };
      for (const other of every("#rows th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
      update();
    });
  }
  const changed = () => {
    only = null;
    update();
    remember();
  };
  query.addEventListener("input", delayed(changed));
  for (const choice of [...filters.values(), findings]) choice.addEventListener("change", changed);
  more.addEventListener("click", extend);
  reset.addEventListener("click", () => {
    apply("");
    remember();
  });
  for (const link of every("a[data-filter]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      location.hash = `#connections?${link.dataset.filter}`;
    });
  }
  addEventListener("hashchange", follow);
  const caption = find("#rows-caption");
  caption.textContent = caption.dataset.scripted;
  find("#controls").hidden = false;
  update();
  follow();
};
if (data.count > 0) connections();
