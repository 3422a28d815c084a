// Before anything is painted: the theme that was chosen, where that is another than the system's.
(() => {
  try {
    const theme = localStorage.getItem("console.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser that keeps nothing: the system's theme it is.
  }
})();
