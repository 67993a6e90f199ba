//! `/v1/tickets/{ticket}`: a denial that happened, explained.

use axum::Json;
use axum::extract::{Extension, State};
use mail::Ticket;

use super::Admin;
use super::access::Principal;
use super::problem::{Named, Problem};
use crate::tickets::Record;

/// `GET /v1/tickets/{ticket}`, as it is printed or without hyphens, in whatever case.
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Named(ticket): Named,
) -> Result<Json<Record>, Problem> {
    principal.must_read()?;
    let ticket: Ticket = ticket
        .parse()
        .map_err(|error| Problem::malformed(format_args!("{ticket:?} is no ticket: {error}")))?;
    let record = match &admin.0.tickets {
        Some(tickets) => tickets.find(ticket).await,
        None => None,
    };
    // A denial of no tenant's, or of another tenant's, is answered as one that does not exist.
    let shown = record.filter(|record| match &record.tenant {
        Some(tenant) => principal.is_for(tenant),
        None => principal.is_for_all(),
    });
    let shown = shown.map(|record| match &principal.tenant {
        Some(own) => record.for_tenant(own, &admin.0.commons.snapshot()),
        None => record,
    });
    shown.map(Json).ok_or_else(|| Problem::not_found(format_args!("there is no ticket {ticket}")))
}
