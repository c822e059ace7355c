// Hints: what carries a `data-tip` says it after a moment under the cursor, when touched, and to screen readers.

const AFTER_MS = 450;

/** Give an element its hint; a label's is also that of its field. */
export function tell(element, hint) {
  element.dataset.tip = hint;
  (element.control ?? element).setAttribute("aria-description", hint);
}

export function giveTips(tip) {
  let timer = 0;
  const hide = () => { clearTimeout(timer); tip.hidden = true; };
  const show = (element) => {
    if (!element.dataset.tip) return;
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    const box = element.getBoundingClientRect();
    const left = Math.min(innerWidth - tip.offsetWidth - 8, Math.max(8, box.left));
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
  };
  for (const element of document.querySelectorAll("[data-tip]")) {
    const named = element.control ?? element;
    tell(element, element.dataset.tip);
    element.addEventListener("pointerenter", () => { hide(); timer = setTimeout(() => show(element), AFTER_MS); });
    element.addEventListener("pointerleave", hide);
    named.addEventListener("focus", (event) => { if (event.target.matches(":focus-visible")) show(element); });
    named.addEventListener("blur", hide);
  }
  for (const end of ["pointerdown", "keydown", "scroll"]) document.addEventListener(end, hide, true);
}
