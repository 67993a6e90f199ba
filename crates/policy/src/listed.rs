//! Block and allow lists in files (DESIGN.md E2), of the node and of each tenant.
//!
//! They only ever close: what a list says is asked of the latest snapshot, after the decision, so
//! that a block acts at once, whatever configuration a transaction began with. An allow list takes
//! what it names off block lists and opens nothing: the node's off all of them, a tenant's off the
//! tenant's own, so that a tenant lifts no block of the node's.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use mail::{Address, ForwardPath, Reason, ReversePath};

use crate::decision::Decision;
use crate::index::TenantIx;
use crate::lists::{Entries, List, Lists};
use crate::patterns::Patterns;
use crate::remedy::Remedy;
use crate::responsible::with_names;
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::source::BlockAllow;
use crate::trace::{Outcome, Trace};

/// A refusal by a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The refusal.
    pub decision: Decision,
    /// The list, as a reply may name it.
    pub list: &'a Arc<str>,
}

impl Entries<Address<'_>> for Patterns {
    fn line(&self, address: Address<'_>) -> Option<u32> {
        with_names(None, address, |names| names.texts().find_map(|name| self.most_specific(name)))
    }
}

impl<E> BlockAllow<List<E>> {
    /// The allow list that takes `item` off this block list, and the line: its own, or the one `above` it.
    fn allowing<'a, I: Copy>(&'a self, above: Option<&'a Self>, item: I) -> Option<(&'a List<E>, u32)>
    where
        E: Entries<I>,
    {
        let mut lists = [Some(self), above].into_iter().flatten().filter_map(|lists| lists.allowed.as_ref());
        lists.find_map(|list| Some((list, list.entries.line(item)?)))
    }

    /// The block list, where it holds `item` and no allow list takes it off.
    fn blocking<'a, I: Copy + fmt::Display>(
        &'a self,
        above: Option<&Self>,
        item: I,
        rule: Rule,
        trace: &mut impl Trace,
    ) -> Option<&'a List<E>>
    where
        E: Entries<I>,
    {
        let list = self.blocked.as_ref()?;
        let name = &list.name;
        let Some(line) = list.entries.line(item) else {
            trace.step(rule, Outcome::Pass, None, || format!("{item} is not on {name}"));
            return None;
        };
        if let Some((allowing, line)) = self.allowing(above, item) {
            let origin = trace.wants_lines().then(|| allowing.origin(line));
            trace.step(rule, Outcome::Pass, origin.as_ref(), || {
                format!("{item} is on {name}, and the allow list {} takes it off", allowing.name)
            });
            return None;
        }
        let origin = trace.wants_lines().then(|| list.origin(line));
        trace.step(rule, Outcome::Deny, origin.as_ref(), || format!("{item} is on {name}"));
        Some(list)
    }
}

impl Snapshot {
    /// The lists of `tenant`, where it has any.
    fn own_lists(&self, tenant: Option<TenantIx>) -> Option<&Lists> {
        tenant.and_then(|tenant| self.tenant(tenant).lists.as_deref())
    }

    /// Whether an allow list, the node's or that of `tenant`, takes mail of this client to this recipient
    /// off lists that are looked up by DNS.
    #[must_use]
    pub(crate) fn is_allowed(&self, client: IpAddr, to: Address<'_>, tenant: Option<TenantIx>) -> bool {
        let own = self.own_lists(tenant).unwrap_or(&self.lists);
        own.clients.allowing(Some(&self.lists.clients), client).is_some()
            || own.recipients.allowing(Some(&self.lists.recipients), to).is_some()
    }

    /// What the node's list of blocked clients says, at the connection; `None` where nothing.
    pub fn decide_client(&self, client: IpAddr, trace: &mut impl Trace) -> Option<Listed<'_>> {
        let list = self.lists.clients.blocking(None, client.to_canonical(), Rule::ClientList, trace)?;
        Some(refused(Rule::ClientList, Reason::ClientBlocked, None, &list.name))
    }

    /// What the lists say about a recipient that was accepted for `tenant`: the node's, then the
    /// tenant's; `None` where nothing. A recipient that an allow list names gets what is sent to it.
    pub fn decide_lists(
        &self,
        client: IpAddr,
        from: ReversePath<'_>,
        to: ForwardPath<'_>,
        tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Option<Listed<'_>> {
        let to = match to {
            ForwardPath::Address(address) => Some(address),
            ForwardPath::Trick { .. } => None,
        };
        if is_welcome(&self.lists, to, trace) {
            return None;
        }
        let own = self.own_lists(tenant).filter(|own| !is_welcome(own, to, trace));
        let node = &self.lists;
        let listed = own.and_then(|own| {
            let (above, client) = (Some(&node.clients), client.to_canonical());
            let list = own.clients.blocking(above, client, Rule::ClientList, trace)?;
            Some(refused(Rule::ClientList, Reason::ClientBlocked, tenant, &list.name))
        });
        listed
            .or_else(|| address_lists(node, None, from, to, tenant, trace))
            .or_else(|| address_lists(own?, Some(node), from, to, tenant, trace))
    }
}

/// Whether the allow list of recipients among these holds this one.
fn is_welcome(lists: &Lists, to: Option<Address<'_>>, trace: &mut impl Trace) -> bool {
    let Some(to) = to else { return false };
    let Some((list, line)) = lists.recipients.allowing(None, to) else { return false };
    let origin = trace.wants_lines().then(|| list.origin(line));
    trace.step(Rule::RecipientList, Outcome::Pass, origin.as_ref(), || {
        format!("{to} is on the allow list {}: no list refuses mail to it", list.name)
    });
    true
}

/// What these lists of senders and recipients say, where those `above` them take nothing off.
fn address_lists<'a>(
    lists: &'a Lists,
    above: Option<&Lists>,
    from: ReversePath<'_>,
    to: Option<Address<'_>>,
    tenant: Option<TenantIx>,
    trace: &mut impl Trace,
) -> Option<Listed<'a>> {
    for (rule, reason, pair, above, address) in [
        (
            Rule::SenderList,
            Reason::SenderBlocked,
            &lists.senders,
            above.map(|above| &above.senders),
            from.address(),
        ),
        (Rule::RecipientList, Reason::RecipientBlocked, &lists.recipients, None, to),
    ] {
        let found = address.and_then(|address| pair.blocking(above, address, rule, trace));
        if let Some(list) = found {
            return Some(refused(rule, reason, tenant, &list.name));
        }
    }
    None
}

fn refused(rule: Rule, reason: Reason, tenant: Option<TenantIx>, list: &Arc<str>) -> Listed<'_> {
    Listed { decision: Decision::deny(rule, tenant, reason, Remedy::TakeOffList), list }
}
