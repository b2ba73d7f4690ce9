// The fields of a card, in a frame of the sandbox's own origin. The page around it hears what Stripe's elements tell
// (complete, brand, errors), never what was typed.
(() => {
  "use strict";

  const start = JSON.parse(decodeURIComponent(window.location.hash.slice(1)));
  const root = document.documentElement;
  const form = document.getElementById("fields");
  const [number, expiry, cvc, postal] = ["number", "expiry", "cvc", "postal"].map((id) => document.getElementById(id));
  const inputs = [number, expiry, cvc, postal];
  const brandMark = document.getElementById("brand");
  // A page of a file, or in a sandboxed frame, has the origin "null", which no message can be addressed to.
  const target = start.origin === "null" ? "*" : start.origin;
  const visited = new Set();
  let options = start.options;

  const tell = (message) => window.parent.postMessage(message, target);

  // ---- Cards ------------------------------------------------------------------------------------------------------

  const BRANDS = [
    { name: "amex", mark: "AMEX", pattern: /^3[47]/, lengths: [15], cvc: 4, groups: [4, 6, 5] },
    { name: "discover", mark: "DISC", pattern: /^6(011|4[4-9]|5)/, lengths: [16], cvc: 3, groups: [4, 4, 4, 4] },
    { name: "diners", mark: "DC", pattern: /^3(0|6|8|9)/, lengths: [14], cvc: 3, groups: [4, 6, 4] },
    { name: "jcb", mark: "JCB", pattern: /^35/, lengths: [16], cvc: 3, groups: [4, 4, 4, 4] },
    { name: "unionpay", mark: "UP", pattern: /^62/, lengths: [16, 19], cvc: 3, groups: [4, 4, 4, 4, 3] },
    { name: "mastercard", mark: "MC", pattern: /^(5[1-5]|2[2-7])/, lengths: [16], cvc: 3, groups: [4, 4, 4, 4] },
    { name: "visa", mark: "VISA", pattern: /^4/, lengths: [16], cvc: 3, groups: [4, 4, 4, 4] },
  ];
  const UNKNOWN = { name: "unknown", mark: "", lengths: [16], cvc: 3, groups: [4, 4, 4, 4] };

  const digits = (input) => input.value.replace(/\D/g, "");
  const brandOf = (text) => BRANDS.find((brand) => brand.pattern.test(text)) ?? UNKNOWN;

  /** The check digit of ISO/IEC 7812 (Luhn). */
  function hasCheckDigit(text) {
    let sum = 0;
    [...text].reverse().forEach((digit, index) => {
      const value = Number(digit) * (index % 2 === 1 ? 2 : 1);
      sum += value > 9 ? value - 9 : value;
    });
    return sum % 10 === 0;
  }

  function monthAndYear() {
    const text = digits(expiry);
    return { month: Number(text.slice(0, 2)), year: 2000 + Number(text.slice(2, 4)), complete: text.length === 4 };
  }

  const problem = (code, message) => ({ type: "validation_error", code, message });

  /** What is wrong with each field, as far as it is filled in; `all` also complains about what is missing. */
  function problems(all) {
    const found = new Map();
    const consider = (input, isEmpty, error) => {
      if (error && (all || (!isEmpty && visited.has(input.id)) || error.code.startsWith("invalid"))) {
        found.set(input.id, error);
      }
    };
    consider(number, !number.value, numberProblem());
    consider(expiry, !expiry.value, expiryProblem());
    const short = digits(cvc).length < brandOf(digits(number)).cvc;
    consider(cvc, !cvc.value, short && problem("incomplete_cvc", "Your card's security code is incomplete."));
    const hasPostal = !isPostalHidden() && postal.value.trim().length < 3;
    consider(postal, !postal.value, hasPostal && problem("incomplete_zip", "Your postal code is incomplete."));
    return found;
  }

  function numberProblem() {
    const text = digits(number);
    const { lengths } = brandOf(text);
    if (text.length < Math.min(...lengths)) {
      return problem("incomplete_number", "Your card number is incomplete.");
    }
    if (!lengths.includes(text.length) || !hasCheckDigit(text)) {
      return problem("invalid_number", "Your card number is invalid.");
    }
    return null;
  }

  function expiryProblem() {
    const { month, year, complete } = monthAndYear();
    if (!complete || month < 1 || month > 12) {
      return problem("incomplete_expiry", "Your card's expiration date is incomplete.");
    }
    const today = new Date();
    if (year < today.getFullYear()) {
      return problem("invalid_expiry_year_past", "Your card's expiration year is in the past.");
    }
    if (year === today.getFullYear() && month < today.getMonth() + 1) {
      return problem("invalid_expiry_month_past", "Your card's expiration date is in the past.");
    }
    return null;
  }

  // ---- Typing -----------------------------------------------------------------------------------------------------

  /** Writes a formatted text, and leaves the cursor behind the digit that it was behind. */
  function rewrite(input, text) {
    const atEnd = input.selectionStart === input.value.length;
    const before = input.value.slice(0, input.selectionStart).replace(/\D/g, "").length;
    input.value = text;
    let position = text.length;
    for (let index = 0, seen = 0; !atEnd && index < text.length; index += 1) {
      if (seen === before) {
        position = index;
        break;
      }
      seen += /\d/.test(text[index]) ? 1 : 0;
    }
    if (document.activeElement === input) {
      input.setSelectionRange(position, position);
    }
  }

  function formatNumber() {
    let text = digits(number);
    const { groups, lengths } = brandOf(text);
    text = text.slice(0, Math.max(...lengths));
    const parts = [];
    for (const size of groups) {
      if (text) {
        parts.push(text.slice(0, size));
        text = text.slice(size);
      }
    }
    rewrite(number, parts.join(" "));
  }

  function formatExpiry(event) {
    let text = digits(expiry);
    if (/^[2-9]/.test(text)) {
      text = `0${text}`;
    }
    // A year that a browser fills in with four digits.
    if (/^\d{2}20\d{2}$/.test(text)) {
      text = text.slice(0, 2) + text.slice(4);
    }
    text = text.slice(0, 4);
    const deletes = event?.inputType?.startsWith("delete");
    const joined = text.length > 2 || (text.length === 2 && !deletes) ? `${text.slice(0, 2)} / ${text.slice(2)}` : text;
    rewrite(expiry, joined);
  }

  function format(event) {
    formatNumber();
    if (event?.target === expiry || !event) {
      formatExpiry(event);
    }
    cvc.value = digits(cvc).slice(0, brandOf(digits(number)).cvc);
    const { mark } = brandOf(digits(number));
    brandMark.textContent = mark;
    brandMark.hidden = options.hideIcon === true || !mark;
  }

  function moveOn(input) {
    const order = inputs.filter((one) => one !== postal || !isPostalHidden());
    const done =
      (input === number && !numberProblem() && brandOf(digits(number)) !== UNKNOWN) ||
      (input === expiry && !expiryProblem()) ||
      (input === cvc && digits(cvc).length === brandOf(digits(number)).cvc);
    const next = order[order.indexOf(input) + 1];
    if (done && next && !next.value && input.selectionStart === input.value.length) {
      next.focus();
    }
  }

  const isPostalHidden = () =>
    start.type === "card"
      ? options.hidePostalCode === true
      : options.fields?.billingDetails === "never" ||
        options.fields?.billingDetails?.address === "never" ||
        options.fields?.billingDetails?.address?.postalCode === "never";

  function show(all) {
    const found = problems(all);
    for (const input of inputs) {
      const error = found.get(input.id);
      input.setAttribute("aria-invalid", String(Boolean(error)));
      document.getElementById(`${input.id}-error`).textContent = error?.message ?? "";
    }
    return found;
  }

  function changed(all = false) {
    const found = show(all);
    const complete = problems(true).size === 0;
    const empty = inputs.every((input) => !input.value);
    const [error] = found.values();
    const value = start.type === "card" ? { postalCode: postal.value } : { type: "card" };
    const event = { elementType: start.type, empty, complete, value };
    if (start.type === "card") {
      Object.assign(event, { brand: brandOf(digits(number)).name, error });
    } else {
      event.collapsed = false;
    }
    tell({ type: "change", event, invalid: Boolean(error) });
  }

  // ---- The look ---------------------------------------------------------------------------------------------------

  const VARIABLES = {
    colorPrimary: "--primary",
    colorBackground: "--background",
    colorText: "--text",
    colorTextSecondary: "--secondary",
    colorDanger: "--danger",
    borderRadius: "--radius",
    fontFamily: "--font",
    fontSizeBase: "--size",
    colorTextPlaceholder: "--placeholder",
  };

  function dress(appearance) {
    root.dataset.theme = appearance.theme ?? "stripe";
    for (const [name, property] of Object.entries(VARIABLES)) {
      root.style.setProperty(property, appearance.variables?.[name] ?? "");
    }
  }

  function apply() {
    const { base = {}, invalid = {} } = options.style ?? {};
    const set = (property, value) => value && root.style.setProperty(property, value);
    set("--text", base.color);
    set("--font", base.fontFamily);
    set("--size", base.fontSize);
    set("--danger", invalid.color);
    set("--placeholder", base["::placeholder"]?.color);
    document.body.style.letterSpacing = base.letterSpacing ?? "";
    document.body.style.fontWeight = base.fontWeight ?? "";
    inputs.forEach((input) => (input.disabled = options.disabled === true || options.readOnly === true));
    postal.closest(".field").hidden = isPostalHidden();
    form.classList.toggle("no-postal", isPostalHidden());
    const given = options.value?.postalCode ?? options.defaultValues?.billingDetails?.address?.postal_code;
    if (given && !postal.value) {
      postal.value = given;
    }
    format();
  }

  // ---- Talking ----------------------------------------------------------------------------------------------------

  function encode(value, name = "", into = new URLSearchParams()) {
    if (value === undefined || value === null) {
      return into;
    }
    if (typeof value !== "object") {
      into.append(name, String(value));
      return into;
    }
    for (const [key, below] of Object.entries(value)) {
      encode(below, name ? `${name}[${key}]` : key, into);
    }
    return into;
  }

  function check() {
    inputs.forEach((input) => visited.add(input.id));
    changed(true);
    const [error] = problems(true).values();
    if (error) {
      document.querySelector('[aria-invalid="true"]')?.focus();
    }
    return error ? { error } : {};
  }

  /** The form with the card in it. A token has it as `card`, a payment method (at `place`) beside its billing details. */
  function filled(parameters, place) {
    const { month, year } = monthAndYear();
    const card = { number: digits(number), exp_month: month, exp_year: year, cvc: digits(cvc) };
    const code = postal.value.trim();
    if (place === "card") {
      return { ...parameters, card: { address_zip: code || undefined, ...parameters.card, ...card } };
    }
    const method = place ? { ...parameters[place] } : { ...parameters };
    method.card = card;
    if (code && !isPostalHidden()) {
      const details = method.billing_details ?? {};
      method.billing_details = { ...details, address: { postal_code: code, ...details.address } };
    }
    return place ? { ...parameters, [place]: method } : method;
  }

  async function send({ path, parameters, place }) {
    const wrong = check();
    if (wrong.error) {
      return wrong;
    }
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { Authorization: `Bearer ${start.key}` },
        body: encode(filled(parameters, place)),
      });
      return await answer.json();
    } catch {
      return { error: { type: "api_connection_error", message: "The sandbox cannot be reached." } };
    }
  }

  function clear() {
    inputs.forEach((input) => (input.value = ""));
    visited.clear();
    format();
    changed();
  }

  window.addEventListener("message", async (event) => {
    if (event.source !== window.parent || (target !== "*" && event.origin !== target)) {
      return;
    }
    const message = event.data;
    switch (message.type) {
      case "update":
        options = message.options;
        apply();
        break;
      case "appearance":
        dress(message.appearance);
        break;
      case "clear":
        clear();
        break;
      case "focus":
        number.focus();
        break;
      case "blur":
        document.activeElement?.blur();
        break;
      case "check":
        tell({ type: "reply", number: message.number, value: check() });
        break;
      case "send":
        // Only the sandbox's own paths, whatever the page says.
        if (/^\/v1\/[\w/]+$/.test(message.path)) {
          tell({ type: "reply", number: message.number, value: await send(message) });
        }
        break;
    }
  });

  let focused = false;
  form.addEventListener("focusin", () => {
    if (!focused) {
      focused = true;
      tell({ type: "focus" });
    }
  });
  form.addEventListener("focusout", (event) => {
    visited.add(event.target.id);
    changed();
    if (!event.relatedTarget) {
      focused = false;
      tell({ type: "blur" });
    }
  });
  form.addEventListener("input", (event) => {
    format(event);
    changed();
    moveOn(event.target);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      tell({ type: "escape" });
    } else if (event.key === "Enter") {
      event.preventDefault();
      tell({ type: "enter" });
    } else if (event.key === "Backspace" && !event.target.value) {
      inputs[inputs.indexOf(event.target) - 1]?.focus();
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  root.dataset.type = start.type;
  dress(start.appearance);
  apply();
  const measure = () => tell({ type: "height", height: Math.ceil(document.body.getBoundingClientRect().height) });
  new ResizeObserver(measure).observe(document.body);
  measure();
  tell({ type: "ready" });
})();
