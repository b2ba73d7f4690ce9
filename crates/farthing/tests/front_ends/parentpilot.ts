// The page of a product whose users pay for what they have used, with the browser code of its document: the Payment Element,
// and `confirmPayment` with the client secret from `POST /api/payments/payment-intent`.
import { loadStripe } from "@stripe/stripe-js";

const form = document.querySelector<HTMLFormElement>("#form")!;
const result = document.querySelector<HTMLElement>("#result")!;
const { key, user: userId } = document.body.dataset as { key: string; user: string };

// 1. Create payment intent
const response = await fetch("/api/payments/payment-intent", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",
    "user-id": userId,
  },
  body: JSON.stringify({ amount: 25.0 }),
});

const { data: paymentIntent }: { data: { clientSecret: string } } = await response.json();

const stripe = await loadStripe(key);
if (!stripe) {
  throw new Error("there is no Stripe");
}
const elements = stripe.elements({ clientSecret: paymentIntent.clientSecret });
elements.create("payment").mount("#element");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  // 2. Process payment with Stripe Elements
  const { error } = await stripe.confirmPayment({
    elements,
    confirmParams: {
      return_url: `${window.location.origin}/payment-success`,
    },
  });

  // 3. Handle success/failure
  if (error) {
    result.textContent = `Payment failed: ${error.message}`;
  } else {
    result.textContent = "Payment successful!";
  }
});
