(function () {
  "use strict";
  var doc = document, $ = function (s, el) { return (el || doc).querySelector(s); };
  var all = function (s) { return Array.prototype.slice.call(doc.querySelectorAll(s)); };

  // Colours: remembered where the browser lets a local page remember.
  try {
    var kept = doc.getElementById("theme-" + localStorage.getItem("callwarden-theme"));
    if (kept) kept.checked = true;
  } catch (e) {}
  all("input[name=theme]").forEach(function (r) {
    r.addEventListener("change", function () {
      try { localStorage.setItem("callwarden-theme", r.value); } catch (e) {}
    });
  });

  // A jump to a turn that is filtered away brings it back.
  addEventListener("hashchange", function () {
    var to = doc.getElementById(location.hash.slice(1)), only = doc.getElementById("only-marked");
    if (to && only && to.closest(".turn:not(.has)")) { only.checked = false; to.scrollIntoView(); }
  });

  // Escape hides a word's tip.
  addEventListener("keydown", function (e) {
    var el = doc.activeElement;
    if (e.key === "Escape" && el && el.tagName === "MARK") el.blur();
    if (e.altKey || e.ctrlKey || e.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(el && el.tagName)) return;
    if (e.key !== "n" && e.key !== "p") return;
    var marks = all(".turn mark");
    if (!marks.length) return;
    var i = marks.indexOf(el) + (e.key === "n" ? 1 : -1);
    if (marks.indexOf(el) < 0 && e.key === "p") i = marks.length - 1;
    marks[(i + marks.length) % marks.length].focus();
    doc.activeElement.scrollIntoView({ block: "center" });
  });

  var chart = $(".chart");
  if (!chart) return;
  var plot = $(".plot", chart), scroll = $(".scroll", chart), cursor = $(".cursor", chart), out = $("output", cursor);
  var total = +chart.dataset.total, turns = all(".turn"), zoom = 1;
  var steps = chart.dataset.steps.split(";").map(function (s) { return s.split(":").map(Number); });
  if (!total) return;

  function clock(ms) {
    var s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60);
    var two = function (n) { return (n < 10 ? "0" : "") + n; };
    return (h ? h + ":" + two(m % 60) : m) + ":" + two(s % 60);
  }
  function timeAt(e) {
    var box = plot.getBoundingClientRect();
    return Math.min(Math.max((e.clientX - box.left) / box.width, 0), 1) * total;
  }
  function last(list, ms, at) {
    for (var i = list.length - 1; i >= 0; i--) if (at(list[i]) <= ms) return list[i];
    return null;
  }
  plot.addEventListener("pointermove", function (e) {
    var ms = timeAt(e), step = last(steps, ms, function (s) { return s[0]; });
    cursor.hidden = false;
    cursor.style.left = 100 * ms / total + "%";
    cursor.classList.toggle("flip", ms > total * 0.85);
    out.textContent = clock(ms) + "  score " + (step ? step[1] : 0);
  });
  plot.addEventListener("pointerleave", function () { cursor.hidden = true; });
  plot.addEventListener("click", function (e) {
    if (e.target.closest("a")) return;
    var t = last(turns, timeAt(e), function (el) { return +el.dataset.ms; });
    if (t) location.hash = t.id;
  });

  var box = $(".zoom");
  box.hidden = false;
  box.addEventListener("click", function (e) {
    var by = e.target.dataset && +e.target.dataset.zoom;
    if (!by) return;
    var mid = (scroll.scrollLeft + scroll.clientWidth / 2) / plot.offsetWidth;
    zoom = Math.min(Math.max(by > 0 ? zoom * 2 : zoom / 2, 1), 16);
    plot.style.width = 100 * zoom + "%";
    scroll.scrollLeft = mid * plot.offsetWidth - scroll.clientWidth / 2;
  });
})();
