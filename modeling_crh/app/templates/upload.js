const input = element.querySelector("input");

const send = (file) => {
  if (!file) return;
  if (file.size > props.max_bytes) return trigger("upload", { size: file.size });
  const reader = new FileReader();
  reader.onload = () => trigger("upload", { size: file.size, content: reader.result.split(",", 2)[1] || "" });
  reader.readAsDataURL(file);
};
const hover = (event) => {
  event.preventDefault();
  element.classList.toggle("over", event.type === "dragover");
};

input.addEventListener("change", () => {
  send(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => send(event.clipboardData?.files[0]));
document.addEventListener("dragover", hover);
document.addEventListener("dragleave", hover);
document.addEventListener("drop", (event) => {
  hover(event);
  send(event.dataTransfer?.files[0]);
});
