// A shop's page as it is written against Stripe's own types: with the Card Element or the Payment Element. What it gets
// is shown as JSON, for the test that drives it.
import { loadStripe } from "@stripe/stripe-js";
import type { Stripe, StripeCardElement, StripeElements, StripeError } from "@stripe/stripe-js";

type Result = { error?: StripeError } | object;

const query = new URLSearchParams(window.location.search);
const secret = query.get("secret") ?? "";
const isSetup = secret.startsWith("seti_");
const form = document.querySelector<HTMLFormElement>("#form")!;
const error = document.querySelector<HTMLElement>("#error")!;
const result = document.querySelector<HTMLElement>("#result")!;
const messages: string[] = [];
window.addEventListener("message", (event) => messages.push(JSON.stringify(event.data)));

function show(outcome: Result): void {
  const failed = "error" in outcome ? outcome.error : undefined;
  error.textContent = failed?.message ?? "";
  result.textContent = JSON.stringify({ outcome, messages });
}

function withCard(stripe: Stripe): () => Promise<Result> {
  const card: StripeCardElement = stripe.elements().create("card", { style: { base: { fontSize: "18px" } } });
  card.on("change", (event) => {
    error.textContent = event.error?.message ?? "";
    document.body.dataset.brand = event.brand;
    document.body.dataset.complete = String(event.complete);
  });
  card.on("ready", () => (document.body.dataset.ready = "true"));
  card.mount("#element");
  const details = { name: "Ada Lovelace", email: "ada@example.com" };
  return async () => {
    switch (query.get("do")) {
      case "token":
        return stripe.createToken(card, { name: details.name });
      case "method":
        return stripe.createPaymentMethod({ type: "card", card, billing_details: details });
      case "unhandled":
        return stripe.confirmCardPayment(secret, { payment_method: { card } }, { handleActions: false });
    }
    const data = { payment_method: { card, billing_details: details } };
    return isSetup ? stripe.confirmCardSetup(secret, data) : stripe.confirmCardPayment(secret, data);
  };
}

function withPaymentElement(stripe: Stripe): () => Promise<Result> {
  const appearance = { theme: "stripe" as const, variables: { colorPrimary: "#0b5cd5" } };
  const deferred = query.get("do") === "deferred";
  const elements: StripeElements = deferred
    ? stripe.elements({ mode: "payment", amount: 2000, currency: "usd", appearance })
    : stripe.elements({ clientSecret: secret, appearance });
  const element = elements.create("payment");
  element.on("ready", () => (document.body.dataset.ready = "true"));
  element.on("change", (event) => (document.body.dataset.complete = String(event.complete)));
  element.mount(document.querySelector<HTMLElement>("#element")!);
  return async () => {
    const submitted = await elements.submit();
    if (submitted.error) {
      return submitted;
    }
    const confirmParams = { return_url: `${window.location.origin}/thanks` };
    if (query.get("do") === "always") {
      return stripe.confirmPayment({ elements, confirmParams });
    }
    if (deferred) {
      return stripe.confirmPayment({ elements, clientSecret: secret, confirmParams, redirect: "if_required" });
    }
    return isSetup
      ? stripe.confirmSetup({ elements, confirmParams, redirect: "if_required" })
      : stripe.confirmPayment({ elements, confirmParams, redirect: "if_required" });
  };
}

const stripe = await loadStripe(query.get("key") ?? "");
if (!stripe) {
  throw new Error("there is no Stripe");
}
if (query.get("do") === "next") {
  show(await stripe.handleNextAction({ clientSecret: secret }));
} else if (query.get("do") === "retrieve") {
  show(isSetup ? await stripe.retrieveSetupIntent(secret) : await stripe.retrievePaymentIntent(secret));
} else {
  const pay = query.get("with") === "payment" ? withPaymentElement(stripe) : withCard(stripe);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    result.textContent = "";
    show(await pay());
  });
}
