// A page without the application takes over the theme that was chosen in it.

document.documentElement.dataset.theme = localStorage.getItem("vigil-theme") || "auto";
