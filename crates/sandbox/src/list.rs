//! Lists: newest first, a page of 1 to 100 (10 if nothing is said), `starting_after` and `ending_before` exclusive.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind::Kind;
use crate::request::Request;
use crate::world::World;

/// The page of a kind's objects that the request asks for, of those that `wanted` says yes to. Reads `limit`,
/// `starting_after`, `ending_before` and, where the objects have it, `created`; the caller reads its own filters before.
pub(crate) fn page(
    world: &World,
    request: &Request,
    kind: Kind,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value, ApiError> {
    let created = Created::read(request)?;
    let all: Vec<&Value> = world.all(kind).rev().filter(|object| created.covers(object) && wanted(object)).collect();
    let place = |object: &Value| object["id"].as_str().and_then(|id| world.place(kind, id)).unwrap_or(0);
    let after = cursor(world, request, kind, "starting_after")?;
    let before = cursor(world, request, kind, "ending_before")?;
    let start = after.map(|after| all.partition_point(|object| place(object) >= after));
    let end = before.map(|before| all.partition_point(|object| place(object) > before));
    window(request, &all, start, end)
}

/// The page of elements that lie within an object, in their own order.
pub(crate) fn page_of(request: &Request, elements: &[Value]) -> Result<Value, ApiError> {
    let all: Vec<&Value> = elements.iter().collect();
    let position = |param: &str| -> Result<Option<usize>, ApiError> {
        let Some(id) = request.parameters.text(param)? else { return Ok(None) };
        let found = all.iter().position(|element| element["id"] == id.as_str());
        let missing = || ApiError::value(param, format!("No such element: '{id}'")).code("resource_missing");
        found.map(Some).ok_or_else(missing)
    };
    let start = position("starting_after")?.map(|after| after + 1);
    let end = position("ending_before")?;
    window(request, &all, start, end)
}

/// As many as `limit` says, from a position on or, where there is an end, up to that.
fn window(request: &Request, all: &[&Value], start: Option<usize>, end: Option<usize>) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let limit = parameters.integer("limit")?.unwrap_or(10);
    if !(1..=100).contains(&limit) {
        let word = if limit < 1 { "greater than or equal to 1" } else { "less than or equal to 100" };
        return Err(ApiError::value("limit", format!("This value must be {word}.")));
    }
    let limit = usize::try_from(limit).unwrap_or(10);
    parameters.finish()?;
    let (data, has_more) = match end {
        Some(end) => {
            let start = end.saturating_sub(limit);
            (all.get(start..end).unwrap_or_default(), start > 0)
        }
        None => {
            let start = start.unwrap_or(0).min(all.len());
            let end = (start + limit).min(all.len());
            (all.get(start..end).unwrap_or_default(), end < all.len())
        }
    };
    Ok(json!({"object": "list", "url": request.path, "has_more": has_more, "data": data}))
}

/// The place of the object that a cursor names. It may have left the list since: then the list goes on from where it was.
fn cursor(world: &World, request: &Request, kind: Kind, param: &str) -> Result<Option<u64>, ApiError> {
    let Some(id) = request.parameters.text(param)? else { return Ok(None) };
    let place = world.place(kind, &id).ok_or_else(|| ApiError::missing(kind, &id, param))?;
    Ok(Some(place))
}

/// `created=..` or `created[gte]=..` and the like.
#[derive(Default)]
struct Created {
    from: Option<i64>,
    until: Option<i64>,
}

impl Created {
    fn read(request: &Request) -> Result<Self, ApiError> {
        let Ok(Some(part)) = request.parameters.part("created") else {
            let exact = request.parameters.integer("created")?;
            return Ok(Self { from: exact, until: exact });
        };
        let from = part.integer("gte")?.or(part.integer("gt")?.map(|second| second.saturating_add(1)));
        let until = part.integer("lte")?.or(part.integer("lt")?.map(|second| second.saturating_sub(1)));
        Ok(Self { from, until })
    }

    fn covers(&self, object: &Value) -> bool {
        let created = object["created"].as_i64().unwrap_or(0);
        self.from.is_none_or(|from| created >= from) && self.until.is_none_or(|until| created <= until)
    }
}
