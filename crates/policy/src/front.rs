//! What a decision reads of a tenant or of a login: one cache line each.
//!
//! Of a hundred thousand tenants any may be next, so that each line of one that a decision reads is a
//! wait for memory. What nearly all of them need is gathered here; what few of them have is marked,
//! and lies elsewhere.

use crate::index::TenantIx;
use crate::patterns::Patterns;
use crate::source::LoginRequired;

/// What decides about a tenant's mail.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Front {
    pub(crate) login_required: LoginRequired,
    pub(crate) null_sender: bool,
    /// Whether the tenant says more about senders than who they are.
    pub(crate) has_sender_rules: bool,
    pub(crate) senders: Senders<59>,
}

/// A login.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Identity {
    pub(crate) tenant: TenantIx,
    /// Its place among the identities of its tenant's source, where the rest of it is.
    pub(crate) index: u32,
    pub(crate) null_sender: bool,
    /// Whether it has its own senders.
    pub(crate) has_own_senders: bool,
    /// As in the tenant's [`Front`], which need not be read then.
    pub(crate) has_sender_rules: bool,
    /// Its own, else those of the tenant where they fit; none where they do not.
    pub(crate) senders: Senders<51>,
}

const _: () = assert!(size_of::<Front>() == 64 && size_of::<Identity>() == 64, "a line each");

/// Sender patterns: in place where they are short, as nearly all are.
#[derive(Debug)]
pub(crate) enum Senders<const BYTES: usize> {
    None,
    Brief(Brief<BYTES>),
    /// The place in the snapshot's longer lists.
    Long(u32),
}

impl<const BYTES: usize> Senders<BYTES> {
    /// The list of these endings, each with its place in the source; `longer` gets it where it does
    /// not fit.
    pub(crate) fn build(endings: &[(impl AsRef<str>, u32)], longer: &mut Vec<Patterns>) -> Self {
        if endings.is_empty() {
            return Self::None;
        }
        Brief::build(endings).map_or_else(
            || {
                longer.push(Patterns::build(endings.iter().map(|(ending, number)| (ending, *number))));
                Self::Long(u32::try_from(longer.len() - 1).expect("fewer lists than 2^32"))
            },
            Self::Brief,
        )
    }

    /// As many of them as fit in place: all or none.
    pub(crate) fn brief(endings: &[(impl AsRef<str>, u32)]) -> Self {
        match endings {
            [] => Self::None,
            _ => Brief::build(endings).map_or(Self::None, Self::Brief),
        }
    }

    /// Whether there is a pattern.
    pub(crate) fn is_any(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The place of the most specific pattern that holds `address`.
    pub(crate) fn find(&self, address: &str, longer: &[Patterns]) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Brief(brief) => brief.most_specific(address),
            Self::Long(list) => longer[*list as usize].most_specific(address),
        }
    }
}

/// Few patterns, one after the other: the forms that there are of a text, its length, the number of
/// each form, the text in lower case. A zero instead of forms ends them.
///
/// `@example.com` and `@*.example.com` share their text: many tenants own both.
#[derive(Debug)]
pub(crate) struct Brief<const BYTES: usize>([u8; BYTES]);

/// What must stand before the text: nothing, an at sign, a dot.
const FORMS: [Option<u8>; 3] = [None, Some(b'@'), Some(b'.')];

impl<const BYTES: usize> Brief<BYTES> {
    /// `None` where they do not fit. Of two endings that are the same the first counts.
    fn build(endings: &[(impl AsRef<str>, u32)]) -> Option<Self> {
        let mut texts: Vec<(String, [Option<u8>; 3])> = Vec::new();
        for (ending, number) in endings {
            let (ending, number) = (ending.as_ref(), u8::try_from(*number).ok()?);
            let form = FORMS.iter().rposition(|form| ending.bytes().next() == *form).unwrap_or(0);
            // One address that begins with a dot is no ending of others.
            let form = if ending.rfind('@').is_some_and(|at| at > 0) { 0 } else { form };
            let text = ending[usize::from(form != 0)..].to_ascii_lowercase();
            let known = texts.iter().position(|(known, _)| *known == text);
            let known = known.unwrap_or_else(|| {
                texts.push((text, [None; 3]));
                texts.len() - 1
            });
            texts[known].1[form].get_or_insert(number);
        }
        let mut bytes = Vec::with_capacity(BYTES);
        for (text, numbers) in &texts {
            let forms = (0..).zip(numbers).filter(|(_, number)| number.is_some());
            bytes.push(forms.map(|(form, _)| 1_u8 << form).sum());
            bytes.push(u8::try_from(text.len()).ok()?);
            bytes.extend(numbers.iter().flatten());
            bytes.extend_from_slice(text.as_bytes());
        }
        let mut array = [0; BYTES];
        array.get_mut(..bytes.len())?.copy_from_slice(&bytes);
        Some(Self(array))
    }

    fn most_specific(&self, address: &str) -> Option<u32> {
        let address = address.as_bytes();
        let mut best: Option<(usize, u8)> = None;
        let mut rest = &self.0[..];
        while let [forms, length, after @ ..] = rest
            && *forms != 0
        {
            let (numbers, after) = after.split_at(forms.count_ones() as usize);
            let (text, next) = after.split_at(usize::from(*length));
            rest = next;
            let Some(start) = address.len().checked_sub(text.len()) else { continue };
            let before = address[..start].last().copied();
            // All of the address, or all that follows an at sign or a dot; nothing is in any address.
            let forms = FORMS.iter().enumerate().filter(|(form, _)| forms & 1 << form != 0);
            let form = forms.zip(numbers).find(|((_, form), _)| before == **form || text.is_empty());
            let Some(((form, _), &number)) = form else { continue };
            let length = text.len() + usize::from(form != 0);
            if address[start..].eq_ignore_ascii_case(text) && best.is_none_or(|(best, _)| length > best) {
                best = Some((length, number));
            }
        }
        best.map(|(_, number)| number.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_lies_elsewhere() {
        let (short, long) = ("@a.example", format!("@{}.example", "a".repeat(59)));
        let mut longer = Vec::new();
        let senders = [short, &long].map(|ending| Senders::<59>::build(&[(ending, 7)], &mut longer));
        assert!(matches!(senders, [Senders::Brief(_), Senders::Long(0)]));
        for (senders, ending) in senders.iter().zip([short, &long]) {
            assert_eq!(senders.find(&format!("x{ending}"), &longer), Some(7));
            assert_eq!(senders.find(&format!("x{ending}x"), &longer), None);
        }
        let numbers: Vec<_> = (0..300).map(|number| ("@a.example", number)).collect();
        assert!(matches!(Senders::<59>::build(&numbers, &mut longer), Senders::Long(1)));
    }

    proptest! {
        #[test]
        fn patterns_in_place_find_what_any_others_find(
            endings in prop::collection::vec("|[@.]?[aB](\\.[aB])?|\\.?[aB]@[aB](\\.[aB])?", 1..6),
            addresses in prop::collection::vec("([ab]?\\.)?[ab]{1,2}@[abA]{1,2}(\\.[abAB]){0,3}", 1..20),
        ) {
            let endings: Vec<_> = endings.iter().map(String::as_str).zip(0..).collect();
            let senders = Senders::<59>::build(&endings, &mut Vec::new());
            prop_assert!(matches!(senders, Senders::Brief(_)));
            let patterns = Patterns::build(endings.iter().copied());
            for address in &addresses {
                prop_assert_eq!(senders.find(address, &[]), patterns.most_specific(address), "{}", address);
            }
        }
    }
}
