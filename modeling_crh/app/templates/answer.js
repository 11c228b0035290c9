let shown = "";

watch("value", () => {
  const heading = element.querySelector("[data-code]");
  const query = heading ? heading.dataset.code + heading.textContent : "";
  if (!heading || query === shown) return; // a slider has moved
  shown = query;
  if (element.contains(document.activeElement)) heading.focus({ preventScroll: true });
  const { top } = element.getBoundingClientRect();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top < 0 || top > innerHeight / 2) element.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
});
