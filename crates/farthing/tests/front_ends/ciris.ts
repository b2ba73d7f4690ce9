// The page of a product that sells uses by the pack, with the browser code of its document: the Card Element, and
// `confirmCardPayment` with the client secret that its server got from `POST /v1/billing/purchases`.
import type { StripeConstructor } from "@stripe/stripe-js";

// What <script src=".../v3/stripe.js"> puts there.
declare const Stripe: StripeConstructor;

const form = document.querySelector<HTMLFormElement>("#form")!;
const result = document.querySelector<HTMLElement>("#result")!;

const stripe = Stripe(document.body.dataset.key!);
const cardElement = stripe.elements().create("card");
cardElement.mount("#element");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const purchase = await fetch("/buy", { method: "POST" });
  const { client_secret: clientSecret }: { client_secret: string } = await purchase.json();

  const { error, paymentIntent } = await stripe.confirmCardPayment(
    clientSecret,
    {
      payment_method: {
        card: cardElement,
        billing_details: {
          email: "user@example.com",
        },
      },
    },
  );

  if (error) {
    result.textContent = `Payment failed: ${error.message}`;
  } else if (paymentIntent.status === "succeeded") {
    result.textContent = "Payment successful! 20 uses added.";
  }
});
