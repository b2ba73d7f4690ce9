// The part of Stripe.js that pages use, talking to the sandbox that served it. Card data is typed into frames of the
// sandbox's origin (element.html), which send it there themselves: the page's own script never sees it.
(() => {
  "use strict";

  const script = document.currentScript ?? document.querySelector('script[src$="/stripe.js"], script[src*="/v3"]');
  if (!script) {
    throw new Error("stripe.js must be loaded by a <script> whose src is the sandbox's /v3/stripe.js.");
  }
  const SANDBOX = new URL(script.src).origin;
  const PAGE = window.location.origin;

  /** A mistake in how the page uses Stripe.js. */
  class IntegrationError extends Error {
    constructor(message) {
      super(message);
      this.name = "IntegrationError";
    }
  }

  // ---- Talking to the sandbox -------------------------------------------------------------------------------------

  /** Nested objects as Stripe's forms have them: `a[b]=c`. */
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

  /** Resolves with the object, or with `{error}`; never rejects. */
  async function call(key, method, path, parameters) {
    const query = method === "GET" ? `?${encode(parameters)}` : "";
    try {
      const answer = await fetch(`${SANDBOX}${path}${query}`, {
        method,
        headers: { Authorization: `Bearer ${key}` },
        body: method === "GET" ? undefined : encode(parameters),
      });
      return await answer.json();
    } catch {
      return { error: { type: "api_connection_error", message: `The sandbox at ${SANDBOX} cannot be reached.` } };
    }
  }

  // ---- Elements ---------------------------------------------------------------------------------------------------

  const TYPES = ["card", "payment"];

  class Element {
    #stripe;
    #type;
    #options;
    #elements;
    #holder = null;
    #frame = null;
    #container = null;
    #loaded = false;
    #destroyed = false;
    #listeners = new Map();
    #waiting = new Map();
    #queue = [];
    #numbers = 0;

    constructor(stripe, elements, type, options) {
      this.#stripe = stripe;
      this.#elements = elements;
      this.#type = type;
      this.#options = options;
      window.addEventListener("message", this.#receive);
    }

    get _type() {
      return this.#type;
    }

    mount(place) {
      if (this.#destroyed) {
        throw new IntegrationError("This Element has already been destroyed. Please create a new one.");
      }
      const container = typeof place === "string" ? document.querySelector(place) : place;
      if (!container) {
        throw new IntegrationError(
          `The selector you specified (${place}) applies to no DOM elements that are currently on the page.`,
        );
      }
      if (this.#container === container) {
        return this;
      }
      this.unmount();
      this.#container = container;
      this.#frame = this.#makeFrame();
      this.#holder = document.createElement("div");
      this.#holder.className = "__PrivateStripeElement";
      this.#holder.append(this.#frame);
      container.replaceChildren(this.#holder);
      container.classList.add(this.#class("base"), this.#class("empty"));
      return this;
    }

    #makeFrame() {
      const frame = document.createElement("iframe");
      const start = {
        type: this.#type,
        key: this.#stripe._key,
        origin: PAGE,
        options: plain(this.#options),
        appearance: plain(this.#elements._options.appearance ?? {}),
      };
      frame.src = `${SANDBOX}/v3/element.html#${encodeURIComponent(JSON.stringify(start))}`;
      frame.title = this.#type === "card" ? "Secure card payment input frame" : "Secure payment input frame";
      frame.name = `__privateStripeFrame-${this.#type}`;
      frame.allow = "payment *";
      // A frame of another colour scheme than its document is painted on an opaque ground.
      const scheme = start.appearance.theme === "night" ? "dark" : "light";
      const height = this.#type === "card" ? "1.2em" : "0";
      frame.style.cssText = `border:0;margin:0;padding:0;width:100%;display:block;height:${height};color-scheme:${scheme}`;
      return frame;
    }

    unmount() {
      const container = this.#container;
      if (!container) {
        return this;
      }
      this.#holder.remove();
      container.classList.remove(...["base", "complete", "empty", "focus", "invalid"].map((name) => this.#class(name)));
      this.#container = this.#holder = this.#frame = null;
      this.#loaded = false;
      for (const answer of this.#waiting.values()) {
        answer({ error: { type: "validation_error", message: "The Element was unmounted." } });
      }
      this.#waiting.clear();
      return this;
    }

    destroy() {
      this.unmount();
      this.#destroyed = true;
      window.removeEventListener("message", this.#receive);
      this.#elements._forget(this);
      return this;
    }

    on(name, listener) {
      this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
      // As with Stripe, a listener that comes late still hears that the element is ready.
      if (name === "ready" && this.#loaded) {
        queueMicrotask(() => listener({ elementType: this.#type }));
      }
      return this;
    }

    once(name, listener) {
      const first = (event) => {
        this.off(name, first);
        listener(event);
      };
      return this.on(name, first);
    }

    off(name, listener) {
      const kept = listener ? (this.#listeners.get(name) ?? []).filter((other) => other !== listener) : [];
      this.#listeners.set(name, kept);
      return this;
    }

    update(options) {
      this.#options = { ...this.#options, ...options };
      this.#post({ type: "update", options: plain(this.#options) });
      return this;
    }

    clear() {
      this.#post({ type: "clear" });
      return this;
    }

    focus() {
      this.#post({ type: "focus" });
      return this;
    }

    blur() {
      this.#post({ type: "blur" });
      return this;
    }

    collapse() {
      return this;
    }

    _appearance(appearance) {
      this.#post({ type: "appearance", appearance: plain(appearance) });
    }

    /** Asks the frame to check its fields: `{}` or `{error}`. */
    _check() {
      return this.#ask({ type: "check" });
    }

    /** Asks the frame to post a form with what was typed put in at `place`: the object or `{error}`. */
    _send(path, parameters, place) {
      return this.#ask({ type: "send", path, parameters: plain(parameters), place });
    }

    #ask(message) {
      if (!this.#frame) {
        throw new IntegrationError(
          "We could not retrieve data from the specified Element. Please make sure the Element you are attempting to use is still mounted.",
        );
      }
      const number = ++this.#numbers;
      return new Promise((resolve) => {
        this.#waiting.set(number, resolve);
        this.#post({ ...message, number });
      });
    }

    #post(message) {
      if (this.#loaded) {
        this.#frame.contentWindow.postMessage(message, SANDBOX);
      } else if (this.#frame) {
        this.#queue.push(message);
      }
    }

    #receive = (event) => {
      if (!this.#frame || event.source !== this.#frame.contentWindow || event.origin !== SANDBOX) {
        return;
      }
      const message = event.data;
      switch (message.type) {
        case "ready":
          this.#loaded = true;
          this.#queue.splice(0).forEach((waiting) => this.#post(waiting));
          this.#emit("ready", { elementType: this.#type });
          break;
        case "height":
          this.#frame.style.height = `${message.height}px`;
          break;
        case "change":
          this.#toggle("complete", message.event.complete);
          this.#toggle("empty", message.event.empty);
          this.#toggle("invalid", message.invalid);
          this.#emit("change", message.event);
          break;
        case "focus":
        case "blur":
          this.#toggle("focus", message.type === "focus");
          this.#emit(message.type, { elementType: this.#type });
          break;
        case "escape":
          this.#emit("escape", { elementType: this.#type });
          break;
        case "enter":
          this.#container.closest("form")?.requestSubmit();
          break;
        case "reply": {
          const answer = this.#waiting.get(message.number);
          this.#waiting.delete(message.number);
          answer?.(message.value);
          break;
        }
      }
    };

    #emit(name, event) {
      for (const listener of this.#listeners.get(name) ?? []) {
        listener(event);
      }
    }

    #class(name) {
      const usual = name === "base" ? "StripeElement" : `StripeElement--${name}`;
      return this.#options.classes?.[name] || usual;
    }

    #toggle(name, on) {
      this.#container.classList.toggle(this.#class(name), Boolean(on));
    }
  }

  /** What can be sent to a frame: options may hold functions. */
  function plain(value) {
    return JSON.parse(JSON.stringify(value ?? {}));
  }

  class Elements {
    #stripe;
    #made = new Map();
    _options;
    _submitted = false;

    constructor(stripe, options) {
      if (options.clientSecret && options.mode) {
        throw new IntegrationError("You cannot specify both clientSecret and mode when creating Elements.");
      }
      this.#stripe = stripe;
      this._options = options;
    }

    create(type, options = {}) {
      if (!TYPES.includes(type)) {
        throw new IntegrationError(`The sandbox has Elements of type ${TYPES.join(" and ")} only, not '${type}'.`);
      }
      if (this.#made.has(type)) {
        throw new IntegrationError(`Can only create one Element of type ${type} through elements().`);
      }
      if (type === "payment" && !this._options.clientSecret && !this._options.mode) {
        throw new IntegrationError(
          "In order to create a payment element, you must pass a clientSecret or mode when creating the Elements group.",
        );
      }
      const element = new Element(this.#stripe, this, type, options);
      this.#made.set(type, element);
      return element;
    }

    getElement(type) {
      return this.#made.get(type) ?? null;
    }

    update(options) {
      this._options = { ...this._options, ...options };
      if (options.appearance) {
        this.#made.forEach((element) => element._appearance(options.appearance));
      }
    }

    async fetchUpdates() {
      return {};
    }

    async submit() {
      const element = this._input();
      const { error } = await element._check();
      this._submitted = !error;
      return error ? { error } : { selectedPaymentMethod: "card" };
    }

    /** The element that the customer types into. */
    _input() {
      const element = this.#made.get("payment") ?? this.#made.get("card");
      if (!element) {
        throw new IntegrationError("Invalid value for elements: it should have a mounted Payment Element or Card Element.");
      }
      return element;
    }

    _forget(element) {
      this.#made.delete(element._type);
    }
  }

  // ---- Stripe -----------------------------------------------------------------------------------------------------

  const INTENTS = {
    payment_intent: { result: "paymentIntent", error: "last_payment_error" },
    setup_intent: { result: "setupIntent", error: "last_setup_error" },
  };

  const NOT_AUTHENTICATED =
    "We are unable to authenticate your payment method. Please choose a different payment method and try again.";

  class StripeClient {
    _key;

    constructor(key, _options) {
      this._key = key;
    }

    elements(options = {}) {
      return new Elements(this, options);
    }

    confirmCardPayment(clientSecret, data = {}, options = {}) {
      return this.#confirmCard("payment_intent", clientSecret, data, options);
    }

    confirmCardSetup(clientSecret, data = {}, options = {}) {
      return this.#confirmCard("setup_intent", clientSecret, data, options);
    }

    async #confirmCard(kind, clientSecret, data, options) {
      const { payment_method: method, return_url: _, ...parameters } = data;
      const handleActions = options.handleActions !== false;
      if (method === undefined || typeof method === "string") {
        return this.#confirm(kind, clientSecret, { ...parameters, payment_method: method }, null, handleActions);
      }
      const { card, ...details } = method;
      const methodData = { type: "card", ...details };
      if (card instanceof Element) {
        return this.#confirm(kind, clientSecret, { ...parameters, payment_method_data: methodData }, card, handleActions);
      }
      if (!card?.token) {
        throw new IntegrationError("Invalid value for payment_method.card: it should be a Card Element or {token}.");
      }
      methodData.card = { token: card.token };
      return this.#confirm(kind, clientSecret, { ...parameters, payment_method_data: methodData }, null, handleActions);
    }

    confirmPayment(options) {
      return this.#confirmWithElements("payment_intent", options);
    }

    confirmSetup(options) {
      return this.#confirmWithElements("setup_intent", options);
    }

    async #confirmWithElements(kind, { elements, clientSecret, confirmParams = {}, redirect = "always" }) {
      const secret = clientSecret ?? elements?._options.clientSecret;
      if (!secret) {
        throw new IntegrationError("A clientSecret is required: pass it, or the Elements that were made with one.");
      }
      const { return_url: returnUrl, payment_method_data: given = {}, ...parameters } = confirmParams;
      if (redirect !== "if_required" && !returnUrl) {
        throw new IntegrationError("confirmParams.return_url is required, unless redirect is 'if_required'.");
      }
      let element = null;
      if (!parameters.payment_method && !parameters.confirmation_token) {
        if (!elements) {
          throw new IntegrationError("Pass elements, or confirmParams.payment_method.");
        }
        if (elements._options.mode && !elements._submitted) {
          throw new IntegrationError("elements.submit() must be called before the payment is confirmed.");
        }
        element = elements._input();
        parameters.payment_method_data = { type: "card", ...given };
      }
      const result = await this.#confirm(kind, secret, parameters, element, true);
      if (result.error || redirect === "if_required") {
        return result;
      }
      const intent = result[INTENTS[kind].result];
      const url = new URL(returnUrl, window.location.href);
      url.searchParams.set(kind, intent.id);
      url.searchParams.set(`${kind}_client_secret`, secret);
      const isDone = ["succeeded", "requires_capture"].includes(intent.status);
      url.searchParams.set("redirect_status", isDone ? "succeeded" : "pending");
      window.location.assign(url);
      return new Promise(() => {});
    }

    async #confirm(kind, clientSecret, parameters, element, handleActions) {
      const path = `/v1/${kind}s/${idOf(kind, clientSecret)}/confirm`;
      const form = { ...parameters, client_secret: clientSecret, use_stripe_sdk: true };
      const answer = element
        ? await element._send(path, form, "payment_method_data")
        : await call(this._key, "POST", path, form);
      if (answer.error) {
        return { error: answer.error };
      }
      return handleActions ? this.#act(kind, answer) : this.#result(kind, answer);
    }

    async handleNextAction({ clientSecret }) {
      const kind = String(clientSecret).startsWith("seti_") ? "setup_intent" : "payment_intent";
      const intent = await this.#retrieve(kind, clientSecret);
      return intent.error ? intent : this.#act(kind, intent);
    }

    handleCardAction(clientSecret) {
      return this.handleNextAction({ clientSecret });
    }


    /** Shows the next action, if there is one, and gives what became of it. */
    async #act(kind, intent) {
      const action = intent.next_action;
      if (intent.status !== "requires_action" || !action) {
        return this.#result(kind, intent);
      }
      const url = action.use_stripe_sdk?.stripe_js ?? action.redirect_to_url?.url;
      if (!url) {
        return { error: { type: "api_error", message: `The sandbox cannot show the next action ${action.type}.` } };
      }
      await authenticate(url);
      const after = await this.#retrieve(kind, intent.client_secret);
      const failed = !after.error && after.status === "requires_payment_method" && after[INTENTS[kind].error];
      if (after.error) {
        return after;
      }
      if (!failed) {
        return this.#result(kind, after);
      }
      // The API's sentence is for developers; Stripe.js has one for customers.
      const message = failed.code?.endsWith("_authentication_failure") ? NOT_AUTHENTICATED : failed.message;
      return { error: { ...failed, message, [kind]: after } };
    }

    #result(kind, intent) {
      return { [INTENTS[kind].result]: intent };
    }

    #retrieve(kind, clientSecret) {
      const path = `/v1/${kind}s/${idOf(kind, clientSecret)}`;
      return call(this._key, "GET", path, { client_secret: clientSecret });
    }

    async retrievePaymentIntent(clientSecret) {
      const intent = await this.#retrieve("payment_intent", clientSecret);
      return intent.error ? { error: intent.error } : { paymentIntent: intent };
    }

    async retrieveSetupIntent(clientSecret) {
      const intent = await this.#retrieve("setup_intent", clientSecret);
      return intent.error ? { error: intent.error } : { setupIntent: intent };
    }

    /** `{type: "card", card: element, billing_details}`, or `{elements | element, params}`. */
    async createPaymentMethod(first, second, third) {
      const data = typeof first === "string" ? { type: first, [first]: second, ...third } : first;
      const element = data.elements?._input() ?? data.element ?? data.card;
      const { card: _, elements: _e, element: _f, params, ...rest } = data;
      const form = { type: "card", ...rest, ...params };
      const answer =
        element instanceof Element
          ? await element._send("/v1/payment_methods", form, "")
          : await call(this._key, "POST", "/v1/payment_methods", { ...form, card: element });
      return answer.error ? { error: answer.error } : { paymentMethod: answer };
    }

    async createToken(element, data = {}) {
      if (!(element instanceof Element)) {
        throw new IntegrationError("createToken() takes a Card Element.");
      }
      const { name, currency, ...address } = data;
      const answer = await element._send("/v1/tokens", { card: { name, currency, ...address } }, "card");
      return answer.error ? { error: answer.error } : { token: answer };
    }

    registerAppInfo() {}

    _registerWrapper() {}
  }

  function idOf(kind, clientSecret) {
    const prefix = kind === "setup_intent" ? "seti_" : "pi_";
    const [id, secret] = String(clientSecret).split("_secret_");
    if (!id.startsWith(prefix) || !secret) {
      throw new IntegrationError(
        `Invalid value for stripe.js: ${kind} client secret should be of the form \${id}_secret_\${secret}. You specified: ${clientSecret}.`,
      );
    }
    return encodeURIComponent(id);
  }

  /**
   * Shows the sandbox's 3-D Secure page over the page, and resolves when the customer is through with it. The address may
   * name the sandbox as the shop's server knows it; the browser knows it as where this script came from.
   */
  function authenticate(address) {
    const { pathname, search } = new URL(address);
    const url = `${SANDBOX}${pathname}${search}`;
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "Authenticate the payment");
    dialog.style.cssText =
      "border:0;padding:0;border-radius:12px;width:min(28rem,calc(100vw - 2rem));height:min(31rem,calc(100vh - 2rem));" +
      "overflow:hidden;box-shadow:0 20px 60px #0006;background:transparent";
    const frame = document.createElement("iframe");
    frame.src = url;
    frame.title = "3-D Secure authentication";
    frame.name = "__privateStripeFrame-3ds";
    frame.style.cssText = "border:0;width:100%;height:100%;display:block";
    dialog.append(frame);
    document.body.append(dialog);
    // The customer decides in the frame: leaving by Escape would leave the payment undecided.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
    return new Promise((resolve) => {
      const receive = (event) => {
        if (event.source !== frame.contentWindow || event.origin !== SANDBOX) {
          return;
        }
        if (event.data?.type === "sandbox-3ds-complete") {
          window.removeEventListener("message", receive);
          dialog.close();
          dialog.remove();
          resolve();
        }
      };
      window.addEventListener("message", receive);
    });
  }

  function Stripe(key, options) {
    if (typeof key !== "string" || !key) {
      throw new IntegrationError("Missing value for Stripe(): apiKey should be a string.");
    }
    if (/^(sk|rk)_/.test(key)) {
      throw new IntegrationError("You should not use your secret key with Stripe.js. Please pass a publishable key instead.");
    }
    if (!/^pk_test_[A-Za-z0-9_-]+$/.test(key)) {
      throw new IntegrationError("The sandbox takes publishable keys of the form pk_test_NAME only.");
    }
    return new StripeClient(key, options);
  }
  Stripe.version = 3;
  window.Stripe = Stripe;
})();
