// Makes the card form of the sandbox's pages pleasant to type into. Without it the form works all the same.
"use strict";

const form = document.querySelector("form[data-card]");
const field = (name) => form?.elements.namedItem(name);

function format(input, write) {
  input?.addEventListener("input", (event) => {
    if (!event.inputType?.startsWith("delete") && input.selectionStart === input.value.length) {
      input.value = write(input.value.replace(/\D/g, ""));
    }
  });
}

function groups(digits) {
  const sizes = /^3[47]/.test(digits) ? [4, 6, 5] : [4, 4, 4, 4, 3];
  const parts = [];
  for (const size of sizes) {
    if (digits) {
      parts.push(digits.slice(0, size));
      digits = digits.slice(size);
    }
  }
  return parts.join(" ");
}

format(field("number"), groups);
format(field("expiry"), (digits) => {
  const text = (/^[2-9]/.test(digits) ? `0${digits}` : digits).slice(0, 4);
  return text.length >= 2 ? `${text.slice(0, 2)} / ${text.slice(2)}` : text;
});

for (const button of document.querySelectorAll("button[data-number]")) {
  button.addEventListener("click", () => {
    const values = { number: groups(button.dataset.number), expiry: "12 / 34", cvc: "123", postal: "12345" };
    if (/^3[47]/.test(button.dataset.number)) {
      values.cvc = "1234";
    }
    for (const [name, value] of Object.entries(values)) {
      const input = field(name);
      if (input) {
        input.value = value;
      }
    }
    form.querySelector("button[type=submit]").focus();
  });
}

// A second click while the first is on its way would pay twice in vain.
form?.addEventListener("submit", () => {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  button.textContent = "One moment…";
});
window.addEventListener("pageshow", (event) => event.persisted && window.location.reload());
