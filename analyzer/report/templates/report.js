"use strict";
// The page is complete without this script. It adds copy buttons and a table that searches, filters and sorts.
// Text goes into the page through textContent only: what a capture holds is never parsed as markup.
(() => {
  const find = (selector) => document.querySelector(selector);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const status = find("#status");

  const copy = async (element) => {
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch {
      // No clipboard for this origin: leave the text selected, so that the reader's own shortcut copies it.
      getSelection().selectAllChildren(element);
      status.textContent = "Selected";
      return "Selected";
    }
    status.textContent = "Copied";
    return "Copied";
  };
  for (const element of document.querySelectorAll("code.copy")) {
    const button = make("button", "", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy ${element.textContent}`);
    button.addEventListener("click", async () => {
      button.textContent = await copy(element);
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
    element.after(button);
  }
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  const data = JSON.parse(find("#connection-data").textContent);
  if (data.count === 0) return;
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
    user_agent: "User agent", activity: "Activity", encapsulation: "Encapsulation", duration_s: "Seconds",
  };
  // Which of a text column's distinct values a row has: by the row, by the row's kind, or there is only one.
  const code = (column, at) => (column.kinds ? column.kinds[data.kind[at]] : column.rows ? column.rows[at] : 0);
  const value = (name, at) => {
    const column = data.columns[name];
    if (column.numbers) return column.numbers[at];
    return "number" in column ? column.number : column.values[code(column, at)];
  };
  const number = (count) => count.toLocaleString("en-US");

  const filters = new Map();
  for (const name of ["channel", ...QUESTIONS]) {
    const select = find(`#filter-${name}`);
    for (const text of [...data.columns[name].values].sort()) {
      const option = make("option", "", name === "channel" ? data.titles[text] ?? text : text);
      option.value = text;
      select.append(option);
    }
    select.addEventListener("change", () => update());
    filters.set(name, select);
  }

  let sorting = { name: "", descending: false };
  let matching = [];
  let shown = 0;
  const body = find("#rows tbody");

  // One look at each distinct text instead of one at each row.
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
    const terms = find("#query").value.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
    const wanted = [];
    for (const [name, choice] of filters) {
      if (!choice.value) continue;
      const column = data.columns[name];
      const wantedCode = column.values.indexOf(choice.value);
      wanted.push((at) => code(column, at) === wantedCode);
    }
    const tests = [...wanted, ...terms];
    const rows = [];
    for (let at = 0; at < data.count; at += 1) if (tests.every((test) => test(at))) rows.push(at);
    if (sorting.name) {
      const key = sorting.name === "row" ? (at) => data.row[at]
        : /_name$/.test(sorting.name) ? (at) => value(sorting.name, at) || value(sorting.name.replace("_name", "_ip"), at)
        : sorting.name === "channel" ? (at) => data.titles[value("channel", at)] ?? "" : (at) => value(sorting.name, at);
      const keys = new Map(rows.map((at) => [at, key(at)]));
      const collator = new Intl.Collator("en", { numeric: true });
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
    for (const [name, title] of Object.entries(DETAILS)) {
      const text = value(name, at);
      if (text === "") continue;
      const pair = make("div");
      pair.append(make("dt", "", title), make("dd", "host", String(text)));
      list.append(pair);
    }
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
  const extend = () => {
    body.append(...matching.slice(shown, shown + PAGE).map(line));
    shown = Math.min(shown + PAGE, matching.length);
    more.hidden = shown >= matching.length;
    find("#matches").textContent = `${number(matching.length)} of ${number(data.count)} rows match, ${number(shown)} shown`;
  };
  const update = () => {
    matching = select();
    shown = 0;
    body.replaceChildren();
    extend();
  };

  for (const head of document.querySelectorAll("#rows th[data-sort]")) {
    const button = make("button", "", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const again = sorting.name === head.dataset.sort;
      sorting = { name: head.dataset.sort, descending: again && !sorting.descending };
      for (const other of document.querySelectorAll("#rows th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
      update();
    });
  }
  let waiting = 0;
  find("#query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  more.addEventListener("click", extend);
  for (const link of document.querySelectorAll("a[data-channel]")) {
    link.addEventListener("click", () => {
      filters.get("channel").value = link.dataset.channel;
      update();
    });
  }
  const caption = find("#rows-caption");
  caption.textContent = caption.dataset.scripted;
  find("#controls").hidden = false;
  update();
})();
