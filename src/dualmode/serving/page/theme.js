// Dark or light: the system's choice, until the button is pressed.

const root = document.documentElement;

document.getElementById("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
};
if (localStorage.getItem("theme")) root.dataset.theme = localStorage.getItem("theme");
