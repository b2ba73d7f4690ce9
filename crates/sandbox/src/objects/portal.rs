//! The customer portal (docs.stripe.com/api/customer_portal): sessions, whose page lets a customer manage cards and
//! subscriptions, and configurations, of which the sandbox keeps what it is told and obeys what its page can do.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

/// What a configuration allows or forbids the page to do.
const FEATURES: &[&str] = &["customer_update", "invoice_history", "payment_method_update", "subscription_cancel"];

pub(crate) fn create_session(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let customer = parameters.required_text("customer")?;
    world.find(kind::CUSTOMER, &customer, "customer")?;
    let configuration = match parameters.text("configuration")? {
        Some(id) => world.find(kind::PORTAL_CONFIGURATION, &id, "configuration")?["id"].clone(),
        None => default_configuration(world)["id"].clone(),
    };
    let id = world.new_id(kind::PORTAL_SESSION);
    let mut session = json!({
        "id": id, "object": "billing_portal.session", "after_expiration": null, "configuration": configuration,
        "created": world.now(), "customer": customer, "customer_account": null, "flow": null, "livemode": false,
        "locale": null, "on_behalf_of": null, "return_url": null,
        "url": format!("{}/pages/{}/portal/{id}", request.base, world.name),
    });
    session["return_url"] = json!(parameters.address("return_url")?);
    parameters.copy_texts(&mut session, &["locale"])?;
    parameters.finish()?;
    world.save(kind::PORTAL_SESSION, &session);
    world.announce("billing_portal.session.created", &session);
    Ok(session)
}

/// The configuration of a session that names none: made when it is first needed.
fn default_configuration(world: &mut World) -> Value {
    if let Some(found) = world.all(kind::PORTAL_CONFIGURATION).find(|configuration| configuration["is_default"] == true)
    {
        return found.clone();
    }
    let mut configuration = blank(world);
    configuration["is_default"] = json!(true);
    store(world, &configuration);
    configuration
}

fn blank(world: &mut World) -> Value {
    let now = world.now();
    json!({
        "id": world.new_id(kind::PORTAL_CONFIGURATION), "object": "billing_portal.configuration", "active": true,
        "application": null,
        "business_profile": {"headline": null, "privacy_policy_url": null, "terms_of_service_url": null},
        "created": now, "default_return_url": null,
        "features": {
            "customer_update": {"allowed_updates": [], "enabled": false},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "cancellation_reason": {"enabled": false, "options": []}, "enabled": true, "mode": "at_period_end",
                "proration_behavior": "none",
            },
            "subscription_update": {
                "billing_cycle_anchor": null, "default_allowed_updates": [], "enabled": false,
                "proration_behavior": "none", "schedule_at_period_end": {"conditions": []}, "trial_update_behavior": null,
            },
        },
        "is_default": false, "livemode": false, "login_page": {"enabled": false, "url": null}, "metadata": {}, "name": null,
        "updated": now,
    })
}

fn store(world: &mut World, configuration: &Value) {
    world.save(kind::PORTAL_CONFIGURATION, configuration);
    world.announce("billing_portal.configuration.created", configuration);
}

pub(crate) fn create_configuration(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let features = request.parameters.part("features")?.ok_or_else(|| request.parameters.missing("features"))?;
    let mut configuration = blank(world);
    for feature in FEATURES {
        configuration["features"][*feature]["enabled"] = json!(false);
    }
    fill(&mut configuration, &request.parameters, Some(&features))?;
    request.parameters.finish()?;
    store(world, &configuration);
    Ok(configuration)
}

pub(crate) fn update_configuration(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::PORTAL_CONFIGURATION, request.id(), "id")?.clone();
    let mut configuration = before.clone();
    if let Some(active) = request.parameters.flag("active")? {
        configuration["active"] = json!(active);
    }
    fill(&mut configuration, &request.parameters, request.parameters.part("features")?.as_ref())?;
    request.parameters.finish()?;
    configuration["updated"] = json!(world.now());
    world.save(kind::PORTAL_CONFIGURATION, &configuration);
    world.announce_change("billing_portal.configuration.updated", &before, &configuration);
    Ok(configuration)
}

fn fill(configuration: &mut Value, parameters: &Parameters, features: Option<&Parameters>) -> Result<(), ApiError> {
    parameters.copy_texts(configuration, &["default_return_url", "name"])?;
    parameters.copy_metadata(configuration)?;
    if let Some(profile) = parameters.part("business_profile")? {
        let fields = ["headline", "privacy_policy_url", "terms_of_service_url"];
        profile.copy_texts(&mut configuration["business_profile"], &fields)?;
    }
    let Some(features) = features else { return Ok(()) };
    for feature in FEATURES {
        if let Some(part) = features.part(feature)?
            && let Some(enabled) = part.flag("enabled")?
        {
            configuration["features"][*feature]["enabled"] = json!(enabled);
        }
    }
    if let Some(part) = features.part("customer_update")?
        && let Some(allowed) = part.texts("allowed_updates")?
    {
        configuration["features"]["customer_update"]["allowed_updates"] = json!(allowed);
    }
    if let Some(part) = features.part("subscription_cancel")?
        && let Some(mode) = part.word("mode", &["at_period_end", "immediately"])?
    {
        configuration["features"]["subscription_cancel"]["mode"] = json!(mode);
    }
    Ok(())
}

pub(crate) fn retrieve_configuration(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::PORTAL_CONFIGURATION, request.id(), "id").cloned()
}

pub(crate) fn list_configurations(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let active = request.parameters.flag("active")?;
    let default = request.parameters.flag("is_default")?;
    list::page(world, request, kind::PORTAL_CONFIGURATION, |configuration| {
        active.is_none_or(|active| configuration["active"] == active)
            && default.is_none_or(|default| configuration["is_default"] == default)
    })
}

/// Whether a session's configuration allows something.
pub(crate) fn allows(world: &World, session: &Value, feature: &str) -> bool {
    features(world, session).is_some_and(|features| features[feature]["enabled"] == true)
}

/// Whether a subscription ends when it is cancelled, and not with its period.
pub(crate) fn ends_at_once(world: &World, session: &Value) -> bool {
    features(world, session).is_some_and(|features| features["subscription_cancel"]["mode"] == "immediately")
}

fn features<'a>(world: &'a World, session: &Value) -> Option<&'a Value> {
    Some(&world.get(kind::PORTAL_CONFIGURATION, session["configuration"].as_str()?)?["features"])
}
