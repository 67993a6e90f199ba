use mail::{ForwardPath, ReversePath};

use crate::decision::Decision;
use crate::facts::Facts;
use crate::index::TenantIx;
use crate::listed::Listed;
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::source::Origin;
use crate::trace::{Outcome, Trace};

/// One rule of an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which rule.
    pub rule: Rule,
    /// What it said.
    pub outcome: Outcome,
    /// Why, for a person.
    pub detail: String,
    /// The configuration line behind it, where there is one.
    pub origin: Option<Origin>,
}

impl Trace for Vec<Step> {
    fn step(
        &mut self,
        rule: Rule,
        outcome: Outcome,
        origin: Option<&Origin>,
        detail: impl FnOnce() -> String,
    ) {
        self.push(Step { rule, outcome, detail: detail(), origin: origin.cloned() });
    }
}

/// A decision and how it came about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rules that were asked, in order; the last one decided.
    pub steps: Vec<Step>,
    /// The decision.
    pub decision: Decision,
    /// The block list that decided, where one did.
    pub list: Option<String>,
    /// The smallest change that would turn a denial.
    pub remedy: Option<String>,
}

impl Snapshot {
    /// Decides about one recipient of a transaction that has no other, and tells why.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>, from: ReversePath<'_>, to: ForwardPath<'_>) -> Explanation {
        self.explain_recipient(facts, from, to, None)
    }

    /// The same for a transaction whose recipients so far belong to `transaction_tenant`.
    #[must_use]
    pub fn explain_recipient(
        &self,
        facts: &Facts<'_>,
        from: ReversePath<'_>,
        to: ForwardPath<'_>,
        transaction_tenant: Option<TenantIx>,
    ) -> Explanation {
        let mut steps = Vec::new();
        let mut listed = self.decide_client(facts.client, &mut steps);
        let mut decision = match listed {
            Some(listed) => listed.decision,
            None => self.decide_recipient(facts, from, to, transaction_tenant, &mut steps),
        };
        if decision.verdict.is_accept() {
            // The lists are asked before the last word is spoken.
            let accepted = steps.pop();
            listed = self.decide_lists(facts.client, from, to, decision.tenant, &mut steps);
            match listed {
                Some(listed) => decision = listed.decision,
                None => steps.extend(accepted),
            }
        }
        let remedy = self.remedy(facts, from, Some(to), &decision);
        explained(steps, decision, listed, remedy)
    }

    /// Decides at MAIL, and tells why.
    #[must_use]
    pub fn explain_mail(&self, facts: &Facts<'_>, from: ReversePath<'_>) -> Explanation {
        let mut steps = Vec::new();
        let listed = self.decide_client(facts.client, &mut steps);
        let decision = match listed {
            Some(listed) => listed.decision,
            None => self.decide_mail(facts, from, &mut steps),
        };
        let remedy = self.remedy(facts, from, None, &decision);
        explained(steps, decision, listed, remedy)
    }
}

fn explained(
    steps: Vec<Step>,
    decision: Decision,
    listed: Option<Listed<'_>>,
    remedy: Option<String>,
) -> Explanation {
    let remedy = match steps.last() {
        Some(Step { origin: Some(origin), .. }) if listed.is_some() => {
            remedy.map(|remedy| format!("{remedy} ({origin})"))
        }
        _ => remedy,
    };
    Explanation { steps, decision, list: listed.map(|listed| listed.list.to_string()), remedy }
}
