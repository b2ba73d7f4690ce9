// What a shop's server does with Stripe's own Node SDK, and the pages that only a browser can finish.
import assert from "node:assert/strict";
import Stripe from "stripe";
import { browser, client, eventually, receiver, refused, sandbox, step } from "./kit.mjs";

const stripe = client("node");
const NO_REDIRECTS = { enabled: true, allow_redirects: "never" };
const chromium = await browser();
const page = await chromium.newPage();
// Where pages send the browser back to: any address that answers will do.
const BACK = `${sandbox.origin}/?back=1`;
const ada = await stripe.customers.create({ email: "ada@example.com" });

const pay = (options = {}) =>
  stripe.paymentIntents.create({
    amount: 2000, currency: "usd", customer: ada.id, payment_method: "pm_card_visa", confirm: true,
    automatic_payment_methods: NO_REDIRECTS, ...options,
  });

await step("a saved card is charged while the customer is away", async () => {
  const method = await stripe.paymentMethods.attach("pm_card_mastercard", { customer: ada.id });
  await stripe.customers.update(ada.id, { invoice_settings: { default_payment_method: method.id } });
  const paid = await pay({ payment_method: method.id, off_session: true });
  assert.equal(paid.status, "succeeded");
});

await step("a decline is a card error with its reason", async () => {
  const error = await refused(pay({ payment_method: "pm_card_visa_chargeDeclined" }));
  assert.ok(error instanceof Stripe.errors.StripeCardError);
  assert.deepEqual([error.statusCode, error.code, error.decline_code], [402, "card_declined", "generic_decline"]);
  assert.equal(error.payment_intent.status, "requires_payment_method");
});

for (const [button, status] of [["Complete authentication", "succeeded"], ["Fail authentication", "failed"]]) {
  await step(`3-D Secure in a browser: ${button}`, async () => {
    const intent = await stripe.paymentIntents.create({
      amount: 2000, currency: "usd", payment_method: "pm_card_threeDSecure2Required", confirm: true, return_url: BACK,
    });
    assert.equal(intent.status, "requires_action");
    await page.goto(intent.next_action.redirect_to_url.url);
    await page.getByRole("button", { name: button }).click();
    await page.waitForURL(/back=1/);
    const query = new URL(page.url()).searchParams;
    assert.deepEqual([query.get("payment_intent"), query.get("redirect_status")], [intent.id, status]);
    const after = await stripe.paymentIntents.retrieve(intent.id);
    assert.equal(after.status, status === "succeeded" ? "succeeded" : "requires_payment_method");
    assert.equal(after.last_payment_error?.code, status === "succeeded" ? undefined : "payment_intent_authentication_failure");
  });
}

await step("a refund", async () => {
  const intent = await pay();
  const refund = await stripe.refunds.create({ payment_intent: intent.id });
  assert.equal(refund.status, "succeeded");
  const charge = await stripe.charges.retrieve(intent.latest_charge);
  assert.equal(charge.refunded, true);
  assert.equal((await refused(stripe.refunds.create({ charge: charge.id }))).code, "charge_already_refunded");
});

await step("a subscription renews by test clock, and changes its plan", async () => {
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: 1_800_000_000 });
  const customer = await stripe.customers.create({
    test_clock: clock.id, payment_method: "pm_card_visa", invoice_settings: { default_payment_method: "pm_card_visa" },
  });
  const product = await stripe.products.create({ name: "Hosting" });
  const price = (unit_amount) =>
    stripe.prices.create({ product: product.id, currency: "usd", unit_amount, recurring: { interval: "month" } });
  const [small, large] = [await price(1000), await price(3000)];
  const made = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: small.id, quantity: 2 }] });
  assert.equal(made.status, "active");
  const [item] = made.items.data;
  await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: item.current_period_end + 2 * 3600 });
  await eventually(async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status === "ready", "the clock");
  const renewed = await stripe.subscriptions.retrieve(made.id, { expand: ["latest_invoice"] });
  assert.equal(renewed.items.data[0].current_period_start, item.current_period_end);
  assert.deepEqual([renewed.latest_invoice.status, renewed.latest_invoice.amount_paid], ["paid", 2000]);
  assert.equal(renewed.latest_invoice.billing_reason, "subscription_cycle");
  const changed = await stripe.subscriptions.update(made.id, { items: [{ id: item.id, price: large.id }] });
  assert.equal(changed.items.data[0].price.id, large.id);
  const { data } = await stripe.invoiceItems.list({ customer: customer.id, pending: true });
  assert.equal(data.length, 2, "a credit and a debit wait for the next invoice");
  const ends = await stripe.subscriptions.update(made.id, { cancel_at_period_end: true });
  assert.deepEqual([ends.status, ends.cancel_at_period_end], ["active", true]);
});

await step("an invoice that is paid on its page", async () => {
  const draft = await stripe.invoices.create({ customer: ada.id, collection_method: "send_invoice", days_until_due: 7 });
  await stripe.invoiceItems.create({ customer: ada.id, invoice: draft.id, amount: 1500, currency: "usd", description: "Advice" });
  const open = await stripe.invoices.finalizeInvoice(draft.id);
  await page.goto(open.hosted_invoice_url);
  await page.getByLabel("Card number").fill("4000000000000002");
  await page.getByLabel("Expiry date").fill("12/34");
  await page.getByLabel("Security code").fill("123");
  await page.getByRole("button", { name: "Pay $15.00" }).click();
  await page.getByText("Your card was declined.").waitFor();
  await page.getByLabel("Card number").fill("4000002760003184");
  await page.getByLabel("Expiry date").fill("12/34");
  await page.getByLabel("Security code").fill("123");
  await page.getByRole("button", { name: "Pay $15.00" }).click();
  await page.getByRole("button", { name: "Complete authentication" }).click();
  await page.getByText("This invoice is paid.").waitFor();
  const paid = await stripe.invoices.retrieve(draft.id, { expand: ["payments"] });
  assert.deepEqual([paid.status, paid.payments.data[0].status], ["paid", "paid"]);
});

await step("a webhook is verified by the SDK", async () => {
  const hooks = await receiver();
  const endpoint = await stripe.webhookEndpoints.create({ url: hooks.url, enabled_events: ["charge.succeeded"] });
  const intent = await pay();
  const { body, signature } = await hooks.wait("charge.succeeded");
  const event = stripe.webhooks.constructEvent(body, signature, endpoint.secret);
  assert.equal(event.data.object.payment_intent, intent.id);
  const wrong = () => stripe.webhooks.constructEvent(body, signature, "whsec_other");
  assert.throws(wrong, Stripe.errors.StripeSignatureVerificationError);
  await stripe.webhookEndpoints.del(endpoint.id);
});

await step("lists are paged through", async () => {
  const made = [];
  for (let number = 0; number < 13; number += 1) {
    made.unshift((await stripe.products.create({ name: `Product ${number}` })).id);
  }
  const seen = await stripe.products.list({ limit: 5 }).autoPagingToArray({ limit: 13 });
  assert.deepEqual(seen.map((product) => product.id), made);
});

await step("what is expanded is there, and what does not exist is refused", async () => {
  const intent = await pay();
  const full = await stripe.paymentIntents.retrieve(intent.id, { expand: ["latest_charge.balance_transaction"] });
  assert.equal(full.latest_charge.balance_transaction.fee, 88);
  const error = await refused(stripe.paymentIntents.retrieve(intent.id, { expand: ["invoice"] }));
  assert.match(error.message, /doesn't exist: invoice/);
});

await step("an idempotency key pays once", async () => {
  const form = { amount: 700, currency: "usd" };
  const [first, again] = [
    await stripe.paymentIntents.create(form, { idempotencyKey: "order-1" }),
    await stripe.paymentIntents.create(form, { idempotencyKey: "order-1" }),
  ];
  assert.equal(first.id, again.id);
  assert.equal(again.lastResponse.headers["idempotent-replayed"], "true");
  const other = await refused(stripe.paymentIntents.create({ ...form, amount: 800 }, { idempotencyKey: "order-1" }));
  assert.ok(other instanceof Stripe.errors.StripeIdempotencyError);
});

await step("errors are told apart", async () => {
  const { hostname: host, port } = sandbox;
  const stranger = new Stripe("sk_live_nothing", { protocol: "http", host, port });
  assert.ok((await refused(stranger.customers.list())) instanceof Stripe.errors.StripeAuthenticationError);
  const missing = await refused(stripe.customers.retrieve("cus_none"));
  assert.deepEqual([missing.statusCode, missing.code, missing.param], [404, "resource_missing", "id"]);
  const small = await refused(stripe.paymentIntents.create({ amount: 10, currency: "usd" }));
  assert.deepEqual([small.statusCode, small.code], [400, "amount_too_small"]);
  const unknown = await refused(stripe.customers.create({ nmae: "Ada" }));
  assert.deepEqual([unknown.code, unknown.param], ["parameter_unknown", "nmae"]);
  const types = await refused(stripe.paymentIntents.create({ amount: 700, currency: "usd", payment_method_types: ["card"] }));
  assert.equal(types.code, "payment_method_types_no_longer_supported");
});

await chromium.close();
