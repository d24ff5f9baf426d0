"use strict";
const SHOWN = 20;  // sentences of a page of the list
const make = (name, text, classes) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (classes) node.className = classes;
  return node;
};

// The words of a sentence, with entities marked; no text is ever read as HTML.
function line(label, words, entities) {
  const row = make("div", undefined, "row");
  row.append(make("span", label));
  const text = row.appendChild(make("div"));
  let place = 0;
  for (const [start, end, type, kind, score] of [...entities].sort((a, b) => a[0] - b[0])) {
    text.append(words.slice(place, start).join(" ") + (start > place ? " " : ""));
    const entity = text.appendChild(make("mark", words.slice(start, end).join(" "), kind === "right" ? "right" : ""));
    const told = [type, ...(kind && kind !== "right" ? [kind] : []), ...(score === undefined ? [] : [score.toFixed(2)])];
    entity.append(make("small", told.join(" · ")));
    text.append(" ");
    place = end;
  }
  text.append(words.slice(place).join(" "));
  return row;
}

function article(row) {
  const shown = make("article");
  const change = row.change ? " · " + row.change : "";
  shown.append(make("h3", (row.place || "sentence " + row.sentence) + change));
  return shown;
}

function error(row) {
  const shown = article(row);
  shown.append(line("gold", row.words, row.gold), line("predicted", row.words, row.predicted));
  if (row.was) shown.append(line("other run", row.words, row.was));
  return shown;
}

function suspect(row) {
  const shown = article(row);
  const percent = (share) => (100 * share).toFixed(share < 0.01 ? 2 : 0) + " %";
  const words = row.suspects.map(([word, label, instead, given, other]) =>
    [word, word + 1, `${label} (${percent(given)}), rather ${instead} (${percent(other)})`]);
  shown.append(line("suspect", row.words, words));
  return shown;
}

// Entities of either side that are wrong, as [type, kind].
const wrong = (row) => [...row.gold, ...row.predicted, ...(row.was || [])].filter((each) => each[3] !== "right");

function list(section, rows, draw) {
  const form = section.querySelector("form"), place = section.querySelector(".list");
  const told = section.querySelector("output"), [back, on] = section.querySelectorAll(".pager button");
  const texts = rows.map((row) => row.words.join(" ").toLowerCase());
  let first = 0, kept = [];
  const value = (name) => form.elements[name]?.value ?? "";
  const show = () => {
    place.replaceChildren(...kept.slice(first, first + SHOWN).map((number) => draw(rows[number])));
    const last = Math.min(first + SHOWN, kept.length);
    told.textContent = kept.length ? `${first + 1} to ${last} of ${kept.length} sentences` : "no sentence";
    back.disabled = first === 0;
    on.disabled = last >= kept.length;
  };
  const filter = () => {
    const type = value("type"), kind = value("kind"), change = value("change"), text = value("text").toLowerCase();
    kept = [...rows.keys()].filter((number) => {
      const row = rows[number];
      return (!text || texts[number].includes(text)) && (!change || row.change === change) &&
        ((!type && !kind) || wrong(row).some((each) => (!type || each[2] === type) && (!kind || each[3] === kind)));
    });
    first = 0;
    show();
  };
  const turn = (by) => {
    first += by * SHOWN;
    show();
    section.scrollIntoView();
    if (document.activeElement === document.body || document.activeElement.disabled) told.focus();
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  filter();
}

const data = JSON.parse(document.getElementById("data").textContent);
list(document.getElementById("errors"), data.errors, error);
list(document.getElementById("suspects"), data.suspects, suspect);
