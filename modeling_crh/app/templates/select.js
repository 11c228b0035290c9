element.addEventListener("click", (event) => {
  const tile = event.target.closest("[data-position]");
  if (tile) trigger("select", { position: Number(tile.dataset.position) });
});
