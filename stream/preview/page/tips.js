// Hints: what carries a `data-tip` says it after a moment under the cursor, when touched, and to screen readers.

const AFTER_MS = 450;

export function giveTips(tip) {
  let timer = 0;
  const hide = () => { clearTimeout(timer); tip.hidden = true; };
  const show = (element) => {
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    const box = element.getBoundingClientRect();
    const left = Math.min(innerWidth - tip.offsetWidth - 8, Math.max(8, box.left));
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
  };
  for (const element of document.querySelectorAll("[data-tip]")) {
    element.setAttribute("aria-description", element.dataset.tip);
    element.addEventListener("pointerenter", () => { hide(); timer = setTimeout(() => show(element), AFTER_MS); });
    element.addEventListener("pointerleave", hide);
    element.addEventListener("focus", (event) => { if (event.target.matches(":focus-visible")) show(element); });
    element.addEventListener("blur", hide);
  }
  for (const end of ["pointerdown", "keydown", "scroll"]) document.addEventListener(end, hide, true);
}
