"""What a shop does with Stripe's own Python SDK, against the sandbox at the address in SANDBOX."""

import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

SANDBOX = os.environ["SANDBOX"]
NO_REDIRECTS = {"enabled": True, "allow_redirects": "never"}
client = stripe.StripeClient("sk_test_python", base_addresses={"api": SANDBOX}, max_network_retries=0)
v1 = client.v1


class Receiver(BaseHTTPRequestHandler):
    """An endpoint that keeps the webhooks it gets."""

    hooks = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hooks.append((body, self.headers["Stripe-Signature"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def step(work):
    """Does one step, and says that it held."""
    work()
    print(f"  held: {work.__name__.replace('_', ' ')}")


def refused(error_type, work):
    try:
        work()
    except error_type as error:
        return error
    raise AssertionError(f"this should have been refused with {error_type.__name__}")


def submit(url, fields):
    """Posts a page's form as a browser does; the page or the address that follows."""
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    data = urllib.parse.urlencode(fields).encode()
    try:
        with urllib.request.build_opener(Stay).open(url, data) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as redirect:
        assert redirect.code == 303, redirect.read()
        return redirect.headers["Location"]


def pay(customer, method="pm_card_visa", **more):
    return v1.payment_intents.create({
        "amount": 2000, "currency": "usd", "customer": customer.id, "payment_method": method, "confirm": True,
        "automatic_payment_methods": NO_REDIRECTS, **more,
    })


ada = v1.customers.create({"email": "ada@example.com", "metadata": {"plan": "pro"}})


@step
def a_saved_card_is_charged_while_the_customer_is_away():
    setup = v1.setup_intents.create({
        "customer": ada.id, "payment_method": "pm_card_visa", "confirm": True, "automatic_payment_methods": NO_REDIRECTS,
    })
    assert setup.status == "succeeded"
    cards = v1.customers.payment_methods.list(ada.id).data
    assert [card.card.last4 for card in cards] == ["4242"]
    v1.customers.update(ada.id, {"invoice_settings": {"default_payment_method": cards[0].id}})
    assert pay(ada, cards[0].id, off_session=True).status == "succeeded"


@step
def a_decline_is_a_card_error_with_its_reason():
    error = refused(stripe.CardError, lambda: pay(ada, "pm_card_visa_chargeDeclinedInsufficientFunds"))
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.error.decline_code == "insufficient_funds"
    assert error.error.payment_intent.status == "requires_payment_method"


@step
def three_d_secure_by_redirect():
    intent = v1.payment_intents.create({
        "amount": 2000, "currency": "usd", "payment_method": "pm_card_threeDSecure2Required", "confirm": True,
        "return_url": "http://shop.example/back?order=1",
    })
    assert intent.status == "requires_action"
    url = intent.next_action.redirect_to_url.url
    back = submit(url, {"outcome": "authorise"})
    assert back.startswith("http://shop.example/back?order=1&payment_intent=" + intent.id), back
    assert "redirect_status=succeeded" in back
    assert v1.payment_intents.retrieve(intent.id).status == "succeeded"


@step
def an_off_session_card_that_wants_its_holder():
    error = refused(stripe.CardError, lambda: pay(ada, "pm_card_authenticationRequired", off_session=True))
    assert error.code == "authentication_required"


@step
def a_refund_in_part_and_no_more_than_was_paid():
    intent = pay(ada)
    assert v1.refunds.create({"payment_intent": intent.id, "amount": 500}).status == "succeeded"
    charge = v1.charges.retrieve(intent.latest_charge)
    assert (charge.amount_refunded, charge.refunded) == (500, False)
    error = refused(stripe.InvalidRequestError, lambda: v1.refunds.create({"charge": charge.id, "amount": 1501}))
    assert error.http_status == 400
    v1.refunds.create({"charge": charge.id})
    error = refused(stripe.InvalidRequestError, lambda: v1.refunds.create({"charge": charge.id}))
    assert error.code == "charge_already_refunded"


@step
def authorised_and_captured_later():
    intent = pay(ada, capture_method="manual")
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 2000)
    captured = v1.payment_intents.capture(intent.id, {"amount_to_capture": 1500})
    assert (captured.status, captured.amount_received) == ("succeeded", 1500)


@step
def a_subscription_renews_by_test_clock_and_changes_its_plan():
    start = int(time.time())
    clock = v1.test_helpers.test_clocks.create({"frozen_time": start})
    grace = v1.customers.create({
        "test_clock": clock.id, "payment_method": "pm_card_visa",
        "invoice_settings": {"default_payment_method": "pm_card_visa"},
    })
    product = v1.products.create({"name": "Hosting"})
    small, large = (
        v1.prices.create({
            "product": product.id, "currency": "usd", "unit_amount": amount, "recurring": {"interval": "month"},
        })
        for amount in (1000, 3000)
    )
    made = v1.subscriptions.create({
        "customer": grace.id, "items": [{"price": small.id}], "expand": ["latest_invoice.payments"],
    })
    assert made.status == "active"
    assert made.latest_invoice.amount_paid == 1000
    assert made.latest_invoice.parent.subscription_details.subscription == made.id
    assert len(made.latest_invoice.payments.data) == 1
    end = made["items"].data[0].current_period_end

    def advance(to):
        v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": to})
        deadline = time.time() + 15
        while v1.test_helpers.test_clocks.retrieve(clock.id).status != "ready":
            assert time.time() < deadline, "the clock does not get ready"
            time.sleep(0.05)

    advance(end + 2 * 3600)
    renewed = v1.subscriptions.retrieve(made.id)
    assert renewed["items"].data[0].current_period_start == end
    assert renewed.latest_invoice != made.latest_invoice.id
    assert v1.invoices.retrieve(renewed.latest_invoice).status == "paid"

    item = renewed["items"].data[0]
    preview = v1.invoices.create_preview({
        "subscription": made.id,
        "subscription_details": {
            "items": [{"id": item.id, "price": large.id}], "proration_behavior": "always_invoice",
            "proration_date": end + 2 * 3600,
        },
    })
    changed = v1.subscriptions.update(made.id, {
        "items": [{"id": item.id, "price": large.id}], "proration_behavior": "always_invoice",
        "proration_date": end + 2 * 3600,
    })
    assert changed["items"].data[0].price.id == large.id
    billed = v1.invoices.retrieve(changed.latest_invoice)
    assert billed.billing_reason == "subscription_update"
    # Almost a whole period of the difference of 2000.
    assert 1990 < billed.amount_paid == preview.amount_due <= 2000, (billed.amount_paid, preview.amount_due)
    ended = v1.subscriptions.cancel(made.id)
    assert ended.status == "canceled"


@step
def an_invoice_of_items_and_the_payment_that_pays_it():
    draft = v1.invoices.create({"customer": ada.id, "collection_method": "send_invoice", "days_until_due": 30})
    v1.invoice_items.create({
        "customer": ada.id, "invoice": draft.id, "amount": 1200, "currency": "usd", "description": "Advice",
    })
    opened = v1.invoices.finalize_invoice(draft.id)
    assert (opened.status, opened.amount_due) == ("open", 1200)
    with urllib.request.urlopen(opened.hosted_invoice_url) as page:
        assert "Advice" in page.read().decode()
    with urllib.request.urlopen(opened.invoice_pdf) as document:
        assert document.read().startswith(b"%PDF-")
    paid = v1.invoices.pay(draft.id)
    assert (paid.status, paid.amount_paid) == ("paid", 1200)
    (payment,) = v1.invoice_payments.list({"invoice": draft.id}).data
    assert payment.status == "paid"
    assert v1.payment_intents.retrieve(payment.payment.payment_intent).amount == 1200
    error = refused(stripe.InvalidRequestError, lambda: v1.invoices.delete(draft.id))
    assert error.http_status == 400


@step
def a_checkout_session_that_is_paid_on_its_page():
    session = v1.checkout.sessions.create({
        "mode": "payment", "success_url": "http://shop.example/thanks?session={CHECKOUT_SESSION_ID}",
        "client_reference_id": "order-7",
        "line_items": [{
            "price_data": {"currency": "eur", "unit_amount": 900, "product_data": {"name": "Minutes"}}, "quantity": 2,
        }],
    })
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 1800)
    card = {"email": "grace@example.com", "expiry": "12 / 34", "cvc": "123", "postal": "12345"}
    page = submit(session.url, {"number": "4000 0000 0000 0002", **card})
    assert "Your card was declined." in page
    went = submit(session.url, {"number": "4242 4242 4242 4242", **card})
    assert went == f"http://shop.example/thanks?session={session.id}"
    done = v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items", "payment_intent"]})
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "order-7")
    assert done.customer_details.email == "grace@example.com"
    assert done.line_items.data[0].description == "Minutes"
    assert done.payment_intent.amount_received == 1800


@step
def a_webhook_is_verified_by_the_sdk():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = v1.webhook_endpoints.create({
        "url": f"http://127.0.0.1:{server.server_port}/hooks", "enabled_events": ["payment_intent.succeeded"],
        "api_version": stripe.api_version,
    })
    intent = pay(ada)
    deadline = time.time() + 15
    while not Receiver.hooks:
        assert time.time() < deadline, "no webhook came"
        time.sleep(0.05)
    body, signature = Receiver.hooks[0]
    event = client.construct_event(body, signature, endpoint.secret)
    assert (event.type, event.data.object.id) == ("payment_intent.succeeded", intent.id)
    assert event.api_version == stripe.api_version
    refused(
        stripe.SignatureVerificationError,
        lambda: client.construct_event(body.replace(b"succeeded", b"failed"), signature, endpoint.secret),
    )


@step
def lists_are_paged_through():
    made = [v1.products.create({"name": str(number)}).id for number in range(23)]
    seen = [product.id for product in v1.products.list({"limit": 10}).auto_paging_iter()]
    assert seen[:23] == made[::-1]
    first = v1.products.list({"limit": 2})
    assert first.has_more and len(first.data) == 2


@step
def what_is_expanded_is_there_and_what_does_not_exist_is_refused():
    intent = pay(ada)
    full = v1.payment_intents.retrieve(intent.id, {"expand": ["customer", "latest_charge.balance_transaction"]})
    assert full.customer.email == "ada@example.com"
    assert full.latest_charge.balance_transaction.net == 2000 - 88
    error = refused(
        stripe.InvalidRequestError, lambda: v1.payment_intents.retrieve(intent.id, {"expand": ["charges"]})
    )
    assert "doesn't exist: charges" in error.user_message


@step
def an_idempotency_key_pays_once():
    form = {"amount": 700, "currency": "usd"}
    first = v1.payment_intents.create(form, {"idempotency_key": "order-1"})
    again = v1.payment_intents.create(form, {"idempotency_key": "order-1"})
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    refused(
        stripe.IdempotencyError,
        lambda: v1.payment_intents.create({**form, "amount": 800}, {"idempotency_key": "order-1"}),
    )


@step
def errors_are_told_apart():
    other = stripe.StripeClient("sk_live_nothing", base_addresses={"api": SANDBOX})
    assert refused(stripe.AuthenticationError, lambda: other.v1.customers.list()).http_status == 401
    missing = refused(stripe.InvalidRequestError, lambda: v1.customers.retrieve("cus_none"))
    assert (missing.http_status, missing.code, missing.param) == (404, "resource_missing", "id")
    small = refused(
        stripe.InvalidRequestError, lambda: v1.payment_intents.create({"amount": 10, "currency": "usd"})
    )
    assert (small.http_status, small.code) == (400, "amount_too_small")
    unknown = refused(stripe.InvalidRequestError, lambda: v1.customers.create({"nmae": "Ada"}))
    assert (unknown.http_status, unknown.code, unknown.param) == (400, "parameter_unknown", "nmae")
    types = refused(
        stripe.InvalidRequestError,
        lambda: v1.payment_intents.create({"amount": 700, "currency": "usd", "payment_method_types": ["card"]}),
    )
    assert types.code == "payment_method_types_no_longer_supported"
    assert re.match("req_", types.request_id)
