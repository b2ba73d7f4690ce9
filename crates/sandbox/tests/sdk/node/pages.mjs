// The sandbox's own pages in a headless Chromium: checkout, the customer portal, the front page; on a screen and on a phone.
import assert from "node:assert/strict";
import { browser, client, refused, sandbox, step } from "./kit.mjs";

const stripe = client("pages");
const chromium = await browser();
const page = await chromium.newPage();
const success_url = `${sandbox.origin}/?session={CHECKOUT_SESSION_ID}`;
const cancel_url = `${sandbox.origin}/?cancelled`;

async function fillCard(number) {
  await page.getByLabel("Card number").fill(number);
  await page.getByLabel("Expiry date").fill("12 / 34");
  await page.getByLabel("Security code").fill("123");
}

/** What every page must hold: it fits, fields have labels, nothing comes from elsewhere. */
async function check() {
  for (const width of [360, 1200]) {
    await page.setViewportSize({ width, height: 800 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `too wide at ${width}`);
  }
  const unnamed = await page.evaluate(
    () => [...document.querySelectorAll("input:not([type=hidden])")].filter((input) => !input.labels.length).length,
  );
  assert.equal(unnamed, 0, "fields without labels");
  const foreign = await page.evaluate(
    () => performance.getEntriesByType("resource").filter((one) => !one.name.startsWith(window.location.origin)).length,
  );
  assert.equal(foreign, 0, "something is loaded from elsewhere");
  assert.equal(await page.locator("h1").count(), 1);
}

const sessionOf = (id) => stripe.checkout.sessions.retrieve(id, { expand: ["line_items"] });
const minutes = { price_data: { currency: "eur", unit_amount: 1250, product_data: { name: "500 minutes" } }, quantity: 2 };

await step("checkout: what is wrong is said, a declined card can be followed by another", async () => {
  const session = await stripe.checkout.sessions.create({
    mode: "payment", line_items: [minutes], success_url, cancel_url, customer_creation: "always", metadata: { order: "7" },
    payment_intent_data: { setup_future_usage: "off_session", metadata: { order: "7" } },
  });
  assert.equal(session.payment_intent, null);
  await page.goto(session.url);
  await check();
  await page.getByText("500 minutes").waitFor();
  await page.getByText("This is a sandbox").waitFor();
  const pay = page.getByRole("button", { name: "Pay €25.00" });
  await page.getByLabel("Email").fill("ada@example.com");
  await fillCard("4242424242424241");
  await pay.click();
  await page.getByRole("alert").getByText("Your card number is incorrect.").waitFor();
  assert.equal(await page.getByLabel("Card number").getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByLabel("Email").inputValue(), "ada@example.com", "what was typed is kept");
  await fillCard("4000000000009995");
  await pay.click();
  await page.getByRole("alert").getByText("insufficient funds").waitFor();
  await check();
  await page.getByText("Cards for testing").click();
  await page.getByRole("button", { name: /4242 4242 4242 4242/ }).click();
  await pay.click();
  await page.waitForURL(`**/?session=${session.id}`);
  const done = await sessionOf(session.id);
  assert.deepEqual([done.status, done.payment_status, done.url], ["complete", "paid", null]);
  assert.equal(done.customer_details.email, "ada@example.com");
  const intent = await stripe.paymentIntents.retrieve(done.payment_intent);
  assert.deepEqual([intent.status, intent.metadata.order, intent.customer], ["succeeded", "7", done.customer]);
  const cards = await stripe.customers.listPaymentMethods(done.customer);
  assert.equal(cards.data.length, 1, "the card is saved");
  const { data } = await stripe.events.list({ type: "checkout.session.completed" });
  assert.equal(data.length, 1);
  assert.equal(data[0].data.object.metadata.order, "7");
  await page.goto(session.url ?? `${sandbox.origin}/pages/pages/checkout/${session.id}`);
  assert.match(page.url(), /session=cs_/, "a paid page leads to the shop");
});

await step("checkout: 3-D Secure, failed and passed", async () => {
  const session = await stripe.checkout.sessions.create({
    mode: "payment", line_items: [minutes], success_url, customer_email: "grace@example.com",
  });
  await page.goto(session.url);
  assert.equal(await page.getByLabel("Email").count(), 0);
  for (const [button, there] of [["Fail authentication", "alert"], ["Complete authentication", "thanks"]]) {
    await fillCard("4000002760003184");
    await page.getByRole("button", { name: /Pay/ }).click();
    await check();
    await page.getByRole("button", { name: button }).click();
    if (there === "alert") {
      await page.getByRole("alert").getByText(/failed authentication/).waitFor();
      assert.equal((await sessionOf(session.id)).status, "open");
    }
  }
  await page.waitForURL(/session=cs_/);
  assert.equal((await sessionOf(session.id)).payment_status, "paid");
});

await step("checkout: a subscription, by a card that asks for 3-D Secure", async () => {
  const session = await stripe.checkout.sessions.create({
    mode: "subscription", success_url,
    line_items: [{
      price_data: { currency: "usd", unit_amount: 1900, recurring: { interval: "month" }, product_data: { name: "Pro" } },
      quantity: 1,
    }],
    subscription_data: { metadata: { plan: "pro" } },
  });
  await page.goto(session.url);
  await page.getByText("Then $19.00 per month").waitFor();
  await page.getByLabel("Email").fill("lin@example.com");
  await fillCard("4000002500003155");
  await page.getByRole("button", { name: "Subscribe" }).click();
  await page.getByRole("button", { name: "Complete authentication" }).click();
  await page.waitForURL(/session=cs_/);
  const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ["subscription", "invoice"] });
  assert.deepEqual([done.status, done.payment_status, done.invoice.status], ["complete", "paid", "paid"]);
  assert.deepEqual([done.subscription.status, done.subscription.metadata.plan], ["active", "pro"]);
  assert.match(done.subscription.default_payment_method, /^pm_/);
});

await step("checkout: a trial takes the card, and no money", async () => {
  const session = await stripe.checkout.sessions.create({
    mode: "subscription", success_url, customer_email: "tim@example.com",
    line_items: [{
      price_data: { currency: "usd", unit_amount: 1900, recurring: { interval: "month" }, product_data: { name: "Pro" } },
      quantity: 1,
    }],
    subscription_data: { trial_period_days: 14 },
  });
  assert.deepEqual([session.amount_total, session.payment_status], [0, "no_payment_required"]);
  await page.goto(session.url);
  await page.getByText("After the trial $19.00 per month").waitFor();
  await fillCard("4242424242424242");
  await page.getByRole("button", { name: "Start trial" }).click();
  await page.waitForURL(/session=cs_/);
  const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ["subscription"] });
  assert.deepEqual([done.payment_status, done.subscription.status], ["no_payment_required", "trialing"]);
  const cards = await stripe.customers.listPaymentMethods(done.customer);
  assert.equal(cards.data.length, 1);
  assert.equal(done.subscription.default_payment_method, cards.data[0].id);
});

await step("checkout: a card is saved for later", async () => {
  const customer = await stripe.customers.create({ email: "sam@example.com" });
  const session = await stripe.checkout.sessions.create({ mode: "setup", currency: "usd", customer: customer.id, success_url });
  await page.goto(session.url);
  await fillCard("4242424242424242");
  await page.getByRole("button", { name: "Save card" }).click();
  await page.waitForURL(/session=cs_/);
  const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ["setup_intent"] });
  assert.deepEqual([done.status, done.setup_intent.status], ["complete", "succeeded"]);
  assert.equal((await stripe.customers.listPaymentMethods(customer.id)).data.length, 1);
});

await step("checkout: an expired page says so", async () => {
  const session = await stripe.checkout.sessions.create({ mode: "payment", line_items: [minutes], success_url, cancel_url });
  await stripe.checkout.sessions.expire(session.id);
  await page.goto(session.url);
  await page.getByText("This page has expired").waitFor();
  await check();
  const error = await refused(stripe.checkout.sessions.expire(session.id));
  assert.match(error.message, /status of expired/);
  assert.equal((await stripe.events.list({ type: "checkout.session.expired" })).data.length, 1);
});

await step("portal: cards, subscriptions and invoices", async () => {
  const customer = await stripe.customers.create({
    email: "kim@example.com", payment_method: "pm_card_visa", invoice_settings: { default_payment_method: "pm_card_visa" },
  });
  const product = await stripe.products.create({ name: "Pro" });
  const price = await stripe.prices.create({
    product: product.id, currency: "usd", unit_amount: 1900, recurring: { interval: "month" },
  });
  const subscription = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] });
  const session = await stripe.billingPortal.sessions.create({ customer: customer.id, return_url: cancel_url });
  await page.goto(session.url);
  await check();
  await page.getByText("kim@example.com").waitFor();

  await page.getByText("Add a card").click();
  await fillCard("4000000000000002");
  await page.getByRole("button", { name: "Save card" }).click();
  await page.getByRole("alert").getByText("Your card was declined.").waitFor();
  await fillCard("4000002500003155");
  await page.getByRole("button", { name: "Save card" }).click();
  await page.getByRole("button", { name: "Complete authentication" }).click();
  await page.getByText("The card is saved.").waitFor();
  await page.getByRole("button", { name: "Make Visa ending in 3155 the default" }).click();
  await page.getByText("This card is now the default.").waitFor();
  const now = await stripe.customers.retrieve(customer.id, { expand: ["invoice_settings.default_payment_method"] });
  assert.equal(now.invoice_settings.default_payment_method.card.last4, "3155");
  await page.getByRole("button", { name: "Remove Visa ending in 4242" }).click();
  await page.getByText("The card is removed.").waitFor();
  assert.equal((await stripe.customers.listPaymentMethods(customer.id)).data.length, 1);

  await page.getByRole("button", { name: "Cancel at period end" }).click();
  await page.getByText("The subscription ends with the period").waitFor();
  assert.equal((await stripe.subscriptions.retrieve(subscription.id)).cancel_at_period_end, true);
  await check();
  await page.getByRole("button", { name: "Don't cancel" }).click();
  await page.getByText("The subscription goes on.").waitFor();
  assert.equal((await stripe.subscriptions.retrieve(subscription.id)).cancel_at_period_end, false);

  const invoice = await stripe.invoices.retrieve(subscription.latest_invoice);
  await page.getByRole("link", { name: invoice.number }).click();
  await page.getByText("This invoice is paid.").waitFor();
  await check();
});

await step("the front page shows what a world was asked, without card numbers", async () => {
  await page.goto(sandbox.origin);
  await check();
  await page.getByLabel("Secret key of the world").fill("sk_test_pages");
  await page.getByRole("button", { name: "Show its requests" }).click();
  await page.getByText(/The latest \d+ requests/).waitFor();
  assert.match(await page.locator("#found").textContent(), /POST \/v1\/checkout\/sessions/);
  await check();
  await page.getByLabel("Secret key of the world").fill("sk_test_nobody_yet");
  await page.getByRole("button", { name: "Show its requests" }).click();
  await page.getByText("Nobody has asked this world anything yet.").waitFor();
});

await step("a page that is not there is a page too", async () => {
  const answer = await page.goto(`${sandbox.origin}/pages/pages/checkout/cs_test_none`);
  assert.equal(answer.status(), 404);
  await page.getByText("There is nothing here").waitFor();
  await check();
});

await chromium.close();
