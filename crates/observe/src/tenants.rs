use std::collections::HashMap;

use arc_swap::ArcSwap;

/// Tenants that have their own labels where nothing else is said; the ones after fold into `other`.
pub const TENANTS_SHOWN_DEFAULT: usize = 256;

/// The slot of requests that belong to no tenant.
pub(crate) const NONE: usize = 0;
/// The slot of tenants past the bound.
pub(crate) const OTHER: usize = 1;

/// Which tenant counts where. A name keeps its slot for the life of the program, whatever a reload
/// does to its place in the configuration.
#[derive(Debug)]
pub(crate) struct TenantSlots {
    by_name: ArcSwap<HashMap<Box<str>, usize>>,
    shown_max: usize,
}

impl TenantSlots {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self { by_name: ArcSwap::default(), shown_max }
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.shown_max + 2
    }

    pub(crate) fn slot(&self, name: Option<&str>) -> usize {
        match name {
            None | Some("") => NONE,
            Some(name) => self.by_name.load().get(name).copied().unwrap_or(OTHER),
        }
    }

    /// Gives slots to the names that have none, while there are some left.
    pub(crate) fn add<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) {
        self.by_name.rcu(|known| {
            let mut grown = HashMap::clone(known);
            for name in names.clone() {
                let next = grown.len() + 2;
                if grown.len() < self.shown_max && !grown.contains_key(name) {
                    grown.insert(name.into(), next);
                }
            }
            grown
        });
    }

    /// The label of each slot; slots without a tenant are left out.
    pub(crate) fn labels(&self) -> Vec<(usize, Box<str>)> {
        let mut labels = vec![(NONE, "none".into()), (OTHER, "other".into())];
        labels.extend(self.by_name.load().iter().map(|(name, &slot)| (slot, name.clone())));
        labels.sort_unstable();
        labels
    }
}
