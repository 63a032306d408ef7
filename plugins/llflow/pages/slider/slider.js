// Moves the edge between the two pictures of every .slider to where its range input is.
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  const move = () => {
    slider.style.setProperty("--at", `${input.value}%`);
    input.setAttribute("aria-valuetext", `${input.value} % dark original`);
  };
  input.addEventListener("input", move);
  move();
}
