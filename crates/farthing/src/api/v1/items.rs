//! Items: something to be billed once, with a customer's next invoice.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::subscription::MOST_QUANTITY;
use engine::{Command, ItemRequest, Money, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Name, SignedNumber, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::Named;
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::api::v1::purchases::major;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::Request;

/// Something to be billed once.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"title": "Set-up", "price": "49"}))]
pub(in crate::api) struct NewItem {
    /// What it is, as the customer reads it.
    title: Name,
    /// What one costs; below zero for what is given back.
    price: SignedNumber,
    /// The currency; the tenant's where absent.
    currency: Option<Name>,
    /// How many; one where absent.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: Option<u32>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

impl NewItem {
    fn request(&self, caller: &Caller, id: uuid::Uuid) -> Result<ItemRequest, Problem> {
        let quantity = self.quantity.unwrap_or(1);
        if !(1..=MOST_QUANTITY).contains(&quantity) {
            let detail = format!("`quantity` is 1 to {MOST_QUANTITY}");
            return Err(Problem::invalid("invalid_value", detail).at("/quantity"));
        }
        let currency = match &self.currency {
            None => caller.catalog().currency.clone(),
            Some(name) => {
                let known = caller.catalog().asset(name.as_str()).ok().filter(|asset| asset.currency().is_some());
                let unknown = || Refusal::UnknownAsset { asset: name.to_string() };
                known.ok_or_else(|| Problem::from(unknown()).at("/currency"))?
            }
        };
        let price = Money::exactly(self.price.0, &currency).map_err(|_| {
            let detail = format!("the price has more digits than {currency} has coins for");
            Problem::invalid("invalid_value", detail).at("/price")
        })?;
        Ok(ItemRequest { id, title: Arc::from(self.title.as_str()), price, quantity })
    }
}

/// Something that waits for the next invoice.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub(in crate::api) struct ItemView {
    /// Its id.
    id: String,
    /// Your own id of the customer.
    customer: String,
    /// What it is.
    title: String,
    /// What one costs.
    price: String,
    /// How many.
    quantity: u32,
    /// In this currency.
    currency: String,
}

/// Bill something once
///
/// It waits for the customer's next invoice in its currency.
#[utoipa::path(post, path = "/v1/customers/{customer}/items", operation_id = "create_item", tag = "subscriptions", request_body = NewItem,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = ItemView)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewItem>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let address = caller.customer(&customer)?;
    let shard_key = address.shard_key;
    let keyed = |key: String| keyed_id(&address.tenant, &address.external_id, "item", &key);
    let operation = operation_key.map(|key| (keyed(key), fingerprint(&body)));
    let id = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let item = body.request(&caller, id)?;
    let view = ItemView {
        id: PublicId { kind: Kind::Item, shard_key, id }.to_string(),
        customer,
        title: item.title.to_string(),
        price: major(&item.price),
        quantity: item.quantity,
        currency: item.price.currency.to_string(),
    };
    let request = Request { operation, ..request(&app, &caller, address, Command::AddItem(item), caller.now()) };
    let done = app.service.execute(request).await?;
    Ok(replayed(answer(StatusCode::CREATED, view), done.replayed))
}
