// Pages of a shop in a headless Chromium, with the sandbox's stripe.js: the Card Element and the Payment Element.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CARDS, answerBank, browser, client, compile, fill, sandbox, serve, step, stripeJs } from "./kit.mjs";

const WORLD = "stripejs";
const stripe = client(WORLD);

const NO_REDIRECTS = { enabled: true, allow_redirects: "never" };

const built = compile("tsconfig.json");
const imports = { imports: { "@stripe/stripe-js": "/stripe-js.mjs" } };
const html = (origin) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<script src="${origin}/v3/stripe.js"></script>
<script type="importmap">${JSON.stringify(imports)}</script>
<form id="form"><div id="element"></div><p id="error" role="alert"></p><button>Pay</button></form>
<pre id="result"></pre><script type="module" src="/page.js"></script></html>`;
const files = {
  "/": ["text/html", html(sandbox.origin)],
  "/elsewhere": ["text/html", html(sandbox.origin.replace("127.0.0.1", "localhost"))],
  "/thanks": ["text/html", "<!doctype html><title>Thanks</title>Thank you"],
  "/page.js": ["text/javascript", readFileSync(join(built, "page.js"))],
  "/stripe-js.mjs": ["text/javascript", stripeJs()],
};
const shop = await serve((request, response) => {
  const [type, body] = files[new URL(request.url, "http://shop").pathname] ?? [];
  response.writeHead(body ? 200 : 404, { "Content-Type": `${type}; charset=utf-8` }).end(body ?? "");
});

const chromium = await browser();

async function open(query, path = "/") {
  const page = await chromium.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  const all = new URLSearchParams({ key: `pk_test_${WORLD}`, ...query });
  await page.goto(`${shop}${path}?${all}`);
  return page;
}

/** Presses the button, answers 3-D Secure if asked to, and gives what the page got. */
async function pay(page, answer) {
  await page.getByRole("button", { name: "Pay" }).click();
  if (answer) {
    await answerBank(page, answer);
  }
  await page.waitForFunction(() => document.querySelector("#result").textContent);
  const { outcome, messages } = JSON.parse(await page.locator("#result").textContent());
  for (const number of Object.values(CARDS)) {
    const seen = messages.some((message) => message.replaceAll(" ", "").includes(number));
    assert.ok(!seen, "the page's own script saw the card number");
  }
  return outcome;
}

const intent = (options = {}) => stripe.paymentIntents.create({ amount: 2000, currency: "usd", ...options });

await step("the card element formats the number, and knows its brand", async () => {
  const page = await open({ secret: (await intent()).client_secret });
  const frame = page.frameLocator("#element iframe");
  await frame.getByLabel("Card number").pressSequentially("4242");
  assert.equal(await frame.getByLabel("Card number").inputValue(), "4242");
  assert.equal(await page.locator("body").getAttribute("data-brand"), "visa");
  await frame.getByLabel("Card number").pressSequentially("424242424242");
  assert.equal(await frame.getByLabel("Card number").inputValue(), "4242 4242 4242 4242");
  // A complete number moves on to the date, the date to the security code.
  await page.keyboard.type("1234123");
  assert.equal(await frame.getByLabel("Expiration date").inputValue(), "12 / 34");
  assert.equal(await frame.getByLabel("Security code").inputValue(), "123");
  assert.equal(await page.locator("body").getAttribute("data-complete"), "false");
  await page.keyboard.type("12345");
  await page.waitForFunction(() => document.body.dataset.complete === "true");
  assert.match(await page.locator("#element").getAttribute("class"), /StripeElement--complete/);
  await page.close();
});

await step("the card element tells what is wrong before anything is sent", async () => {
  const page = await open({ secret: (await intent()).client_secret });
  await fill(page, CARDS.wrong);
  await page.waitForFunction(() => document.querySelector("#error").textContent === "Your card number is invalid.");
  assert.deepEqual((await pay(page)).error, {
    type: "validation_error", code: "invalid_number", message: "Your card number is invalid.",
  });
  await page.close();
});

for (const element of ["card", "payment"]) {
  await step(`the ${element} element pays`, async () => {
    const made = await intent();
    const page = await open({ with: element, secret: made.client_secret });
    await fill(page, CARDS.good);
    const { paymentIntent } = await pay(page);
    assert.equal(paymentIntent.status, "succeeded");
    assert.equal(paymentIntent.metadata, undefined, "a browser does not see everything");
    const paid = await stripe.paymentIntents.retrieve(made.id, { expand: ["payment_method"] });
    assert.equal(paid.status, "succeeded");
    assert.equal(paid.payment_method.card.last4, "4242");
    assert.equal(paid.payment_method.billing_details.address.postal_code, "12345");
    await page.close();
  });

  await step(`the ${element} element passes 3-D Secure`, async () => {
    const page = await open({ with: element, secret: (await intent()).client_secret });
    await fill(page, CARDS.asks);
    assert.equal((await pay(page, "Complete authentication")).paymentIntent.status, "succeeded");
    await page.close();
  });

  await step(`the ${element} element is refused by 3-D Secure, and pays with another card`, async () => {
    const page = await open({ with: element, secret: (await intent()).client_secret });
    await fill(page, CARDS.asks);
    const { error } = await pay(page, "Fail authentication");
    assert.equal(error.code, "payment_intent_authentication_failure");
    assert.equal(error.payment_intent.status, "requires_payment_method");
    assert.match(await page.locator("#error").textContent(), /unable to authenticate/);
    const frame = page.frameLocator("#element iframe");
    await frame.getByLabel("Card number").fill("");
    await frame.getByLabel("Card number").fill(CARDS.good);
    assert.equal((await pay(page)).paymentIntent.status, "succeeded");
    await page.close();
  });

  await step(`the ${element} element is declined`, async () => {
    const page = await open({ with: element, secret: (await intent()).client_secret });
    await fill(page, CARDS.declined);
    const { error } = await pay(page);
    assert.deepEqual([error.type, error.code, error.decline_code], ["card_error", "card_declined", "generic_decline"]);
    assert.equal(error.payment_intent.status, "requires_payment_method");
    assert.equal(await page.locator("#error").textContent(), "Your card was declined.");
    await page.close();
  });

  await step(`the ${element} element saves a card`, async () => {
    const customer = await stripe.customers.create();
    const setup = await stripe.setupIntents.create({ customer: customer.id });
    const page = await open({ with: element, secret: setup.client_secret });
    await fill(page, CARDS.asksOnce);
    assert.equal((await pay(page, "Complete authentication")).setupIntent.status, "succeeded");
    const { data } = await stripe.customers.listPaymentMethods(customer.id);
    assert.equal(data[0].card.last4, "3155");
    const options = { customer: customer.id, payment_method: data[0].id, confirm: true, off_session: true };
    const later = await intent({ ...options, automatic_payment_methods: NO_REDIRECTS });
    assert.equal(later.status, "succeeded");
    await page.close();
  });
}

await step("the payment element complains below its fields", async () => {
  const page = await open({ with: "payment", secret: (await intent()).client_secret });
  const { error } = await pay(page);
  assert.equal(error.code, "incomplete_number");
  const frame = page.frameLocator("#element iframe");
  assert.equal(await frame.locator("#number-error").textContent(), "Your card number is incomplete.");
  assert.equal(await frame.getByLabel("Card number").getAttribute("aria-invalid"), "true");
  await page.close();
});

await step("a payment element that was made before its intent", async () => {
  const page = await open({ with: "payment", do: "deferred", secret: (await intent()).client_secret });
  await fill(page, CARDS.good);
  assert.equal((await pay(page)).paymentIntent.status, "succeeded");
  await page.close();
});

await step("a payment that always comes back by its return_url", async () => {
  const made = await intent();
  const page = await open({ with: "payment", do: "always", secret: made.client_secret });
  await fill(page, CARDS.asks);
  await page.getByRole("button", { name: "Pay" }).click();
  await answerBank(page, "Complete authentication");
  await page.waitForURL(/thanks/);
  const query = new URL(page.url()).searchParams;
  assert.equal(query.get("payment_intent"), made.id);
  assert.equal(query.get("payment_intent_client_secret"), made.client_secret);
  assert.equal(query.get("redirect_status"), "succeeded");
  await page.close();
});

await step("an action that the page handles later", async () => {
  const made = await intent();
  let page = await open({ do: "unhandled", secret: made.client_secret });
  await fill(page, CARDS.asks);
  assert.equal((await pay(page)).paymentIntent.status, "requires_action");
  await page.close();
  page = await open({ do: "next", secret: made.client_secret });
  await answerBank(page, "Complete authentication");
  await page.waitForFunction(() => document.querySelector("#result").textContent);
  const { outcome } = JSON.parse(await page.locator("#result").textContent());
  assert.equal(outcome.paymentIntent.status, "succeeded");
  await page.close();
});

await step("an action of a server that knows the sandbox by another name than the browser", async () => {
  const made = await intent({
    payment_method: "pm_card_threeDSecure2Required", confirm: true, automatic_payment_methods: NO_REDIRECTS,
  });
  assert.equal(made.status, "requires_action");
  const page = await open({ do: "next", secret: made.client_secret }, "/elsewhere");
  await answerBank(page, "Complete authentication");
  await page.waitForFunction(() => document.querySelector("#result").textContent);
  assert.equal((await stripe.paymentIntents.retrieve(made.id)).status, "succeeded");
  await page.close();
});

await step("tokens and payment methods that a server uses", async () => {
  let page = await open({ do: "token" });
  await fill(page, CARDS.good);
  const { token } = await pay(page);
  assert.match(token.id, /^tok_/);
  const method = await stripe.paymentMethods.create({ type: "card", card: { token: token.id } });
  assert.equal(method.card.last4, "4242");
  await page.close();
  page = await open({ do: "method" });
  await fill(page, CARDS.good);
  const { paymentMethod } = await pay(page);
  assert.equal(paymentMethod.billing_details.name, "Ada Lovelace");
  const paid = await intent({
    payment_method: paymentMethod.id, confirm: true, automatic_payment_methods: NO_REDIRECTS,
  });
  assert.equal(paid.status, "succeeded");
  await page.close();
});

await step("intents are read with their client secret, and with no other", async () => {
  const made = await intent();
  for (const [secret, wanted] of [[made.client_secret, made.status], [`${made.id}_secret_no`, undefined]]) {
    const page = await open({ do: "retrieve", secret });
    await page.waitForFunction(() => document.querySelector("#result").textContent);
    const { outcome } = JSON.parse(await page.locator("#result").textContent());
    assert.equal(outcome.paymentIntent?.status, wanted);
    await page.close();
  }
});

await step("a secret key is not for browsers", async () => {
  const page = await open({ secret: "pi_1_secret_2" });
  for (const key of ["sk_test_x", "", "pk_live_x"]) {
    const message = await page.evaluate((given) => {
      try {
        window.Stripe(given);
        return null;
      } catch (error) {
        return error.name;
      }
    }, key);
    assert.equal(message, "IntegrationError", key);
  }
  await page.close();
});

await chromium.close();
