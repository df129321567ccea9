// Loaded before the style sheet, so that the page never flashes in the other colours.
document.documentElement.dataset.theme = (() => {
  try {
    return localStorage.getItem("callwarden-theme") || "auto";
  } catch {
    return "auto";
  }
})();
