//! The recount of invoices: that their lines add up, that what they ask for is what the ledger and the customer's row
//! say, and that a tenant's numbers have no gap.

use std::collections::BTreeMap;

use engine::invoice::Invoice;
use engine::{Asset, InvoiceState, Money};
use uuid::Uuid;

use super::{Amount, Difference, Found, Subject};
use crate::store::{CustomerRow, LedgerSum, Page, Scope, Store, StoreError};

/// How many invoices of a customer are read at once.
const PAGE: i64 = 100;

/// What the invoices of a customer say of what is open.
type Open = BTreeMap<Uuid, i64>;

/// What is wrong with the invoices of a customer, given what its entries add up to.
pub(super) async fn compare_invoices(
    store: &dyn Store,
    row: &CustomerRow,
    sums: &[LedgerSum],
) -> Result<Vec<Found>, StoreError> {
    let customer = &row.customer;
    let scope = Scope { tenant: row.tenant.as_str().into(), customer: Some(customer.id) };
    let owner = (customer.shard_key, customer.id);
    let (mut found, mut open, mut after) = (Vec::new(), Open::new(), None);
    loop {
        let page = store.invoices(&scope, owner, Page { after, limit: PAGE }).await?;
        for invoice in page.iter().map(|row| &row.value).filter(|invoice| invoice.position <= customer.position) {
            if let Some(sides) = wrong_in(invoice) {
                found.push((Subject::Invoice { invoice: invoice.id }, Some(sides)));
            }
            if invoice.standing.credited > 0 {
                found.extend(compare_credit(store, &scope, owner.0, invoice).await?);
            }
            if matches!(invoice.standing.state, InvoiceState::Open | InvoiceState::Uncollectible) {
                open.insert(invoice.id, invoice.standing.due);
            }
        }
        let last = page.last().and_then(|row| row.value.number.as_ref()?.parse().ok());
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    found.extend(compare_open(row, &open));
    found.extend(compare_accounts(row, sums));
    Ok(found)
}

/// What an invoice says of itself that does not add up: what its parts come to, and what it says.
fn wrong_in(invoice: &Invoice) -> Option<(String, String)> {
    let minor = |of: &dyn Fn(&engine::Line) -> i64| invoice.lines.iter().map(|line| i128::from(of(line))).sum::<i128>();
    let taxes = |line: &engine::Line, on_top: bool| {
        line.taxes.iter().filter(|tax| !on_top || !tax.inclusive).map(|tax| tax.minor).sum::<i64>()
    };
    let subtotal = minor(&|line| line.minor);
    let discount = minor(&|line| line.discount);
    let total = subtotal - discount + minor(&|line| taxes(line, true));
    let parts = [subtotal, discount, minor(&|line| taxes(line, false)), total];
    let said = [invoice.subtotal, invoice.discount, invoice.tax, invoice.total].map(i128::from);
    if parts != said {
        return Some((format!("{parts:?}"), format!("{said:?}")));
    }
    let standing = &invoice.standing;
    let asked = invoice.total - invoice.carried;
    let settled = i128::from(standing.due) + i128::from(standing.paid) + i128::from(standing.credited);
    match standing.state {
        InvoiceState::Open | InvoiceState::Uncollectible if settled != i128::from(asked) => {
            Some((asked.to_string(), settled.to_string()))
        }
        InvoiceState::Paid | InvoiceState::Void if standing.due != 0 => {
            Some(("0".to_owned(), standing.due.to_string()))
        }
        _ => None,
    }
}

/// What credit notes took off an invoice, where it says something else.
async fn compare_credit(
    store: &dyn Store,
    scope: &Scope,
    shard_key: i32,
    invoice: &Invoice,
) -> Result<Option<Found>, StoreError> {
    let notes = store.credit_notes(scope, (shard_key, invoice.id)).await?;
    let noted: i128 = notes.iter().map(|note| i128::from(note.minor)).sum();
    let said = i128::from(invoice.standing.credited);
    Ok((noted != said).then(|| (Subject::Invoice { invoice: invoice.id }, Some((noted.to_string(), said.to_string())))))
}

/// Invoices that are open by themselves, or in the customer's row, and not in the other, or with another sum.
fn compare_open(row: &CustomerRow, documents: &Open) -> Vec<Found> {
    let in_row: Open = row.customer.state.invoices.iter().map(|open| (open.id, open.standing.due)).collect();
    let ids = documents.keys().chain(in_row.keys().filter(|id| !documents.contains_key(id)));
    let said = |of: &Open, id: &Uuid| of.get(id).map_or_else(|| "settled".to_owned(), |due| format!("{due} due"));
    ids.filter(|id| documents.get(id) != in_row.get(id))
        .map(|id| (Subject::Invoice { invoice: *id }, Some((said(documents, id), said(&in_row, id)))))
        .collect()
}

/// What open invoices ask for and what was carried, as the ledger and the row have it; and that no more waits for an
/// invoice than is owed.
fn compare_accounts(row: &CustomerRow, sums: &[LedgerSum]) -> Vec<Found> {
    let state = &row.customer.state;
    let mut sides: BTreeMap<Subject, (i128, i128)> = BTreeMap::new();
    for sum in sums {
        let asset = sum.asset.clone();
        let subject = match sum.account.as_str() {
            "invoiced" => Subject::Invoiced { asset },
            "carried" => Subject::Carried { asset },
            _ => continue,
        };
        sides.entry(subject).or_default().0 -= sum.amount;
    }
    for open in &state.invoices {
        let asset = open.currency.clone();
        sides.entry(Subject::Invoiced { asset }).or_default().1 += micros(open.standing.due, &open.currency);
    }
    for (asset, minor) in &state.carried {
        sides.entry(Subject::Carried { asset: asset.clone() }).or_default().1 += micros(*minor, asset);
    }
    let mut waiting: BTreeMap<&Asset, i128> = BTreeMap::new();
    for usage in &state.unbilled {
        *waiting.entry(&usage.asset).or_default() += i128::from(usage.owed.get());
    }
    for (asset, waiting) in waiting {
        let owed = i128::from(state.owed.get(asset).copied().unwrap_or_default().get());
        if waiting > owed {
            sides.insert(Subject::Unbilled { asset: asset.clone() }, (owed, waiting));
        }
    }
    let differing = sides.into_iter().filter(|(_, (expected, found))| expected != found);
    let shown =
        |(subject, (expected, found))| (subject, Some((Amount(expected).to_string(), Amount(found).to_string())));
    differing.map(shown).collect()
}

/// Minor units of a currency in micros; nothing in what is no currency.
fn micros(minor: i64, currency: &Asset) -> i128 {
    let one = Money { minor: 1, currency: currency.clone() }.micros();
    i128::from(minor) * one.map_or(0, |one| i128::from(one.get()))
}

/// Tenants whose invoice numbers are not one, two, three and so on up to the last that was given.
pub(super) async fn compare_numbers(store: &dyn Store) -> Result<Vec<Difference>, StoreError> {
    let numbers = store.invoice_numbers().await?;
    let wrong = numbers.into_iter().filter(|numbers| {
        let expected = numbers.next - 1;
        [numbers.invoices, numbers.distinct, numbers.greatest] != [expected; 3] || (expected > 0 && numbers.least != 1)
    });
    let difference = |numbers: crate::store::InvoiceNumbers| Difference {
        tenant: numbers.tenant,
        customer: None,
        subject: Subject::Numbers,
        expected: Some(format!("1 to {}", numbers.next - 1)),
        found: Some(format!("{} from {} to {}", numbers.distinct, numbers.least, numbers.greatest)),
    };
    Ok(wrong.map(difference).collect())
}
