use crate::address::{Address, ReversePath};

/// The envelope of one transaction: reverse-path and recipients (RFC 5321 section 2.3.1).
///
/// Its texts share one buffer that is kept between transactions, so that a session collects
/// envelopes without allocating.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    text: String,
    /// `None` is the null reverse-path.
    reverse_path: Option<Place>,
    recipients: Vec<Place>,
    eight_bit: bool,
}

/// Where an address lies in the text: it was read when it came, and is not read again.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    /// Its @, from its start.
    at: u16,
    end: u32,
}

impl Envelope {
    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        self.text.clear();
        self.reverse_path = None;
        self.recipients.clear();
        self.eight_bit = false;
    }

    /// Starts over with a reverse-path.
    pub fn begin(&mut self, from: ReversePath<'_>) {
        self.clear();
        self.reverse_path = from.address().map(|from| self.push(from));
    }

    /// Adds a recipient.
    pub fn push_recipient(&mut self, to: Address<'_>) {
        let place = self.push(to);
        self.recipients.push(place);
    }

    fn push(&mut self, address: Address<'_>) -> Place {
        let end = |text: &String| u32::try_from(text.len()).expect("an envelope has less than 4 GiB");
        let start = end(&self.text);
        self.text.push_str(address.text());
        let at = u16::try_from(address.at()).expect("a local part is short");
        Place { start, at, end: end(&self.text) }
    }

    fn address(&self, place: Place) -> Address<'_> {
        Address::known(&self.text[place.start as usize..place.end as usize], place.at.into())
    }

    /// The reverse-path.
    #[must_use]
    pub fn reverse_path(&self) -> ReversePath<'_> {
        self.reverse_path.map_or(ReversePath::Null, |place| ReversePath::Address(self.address(place)))
    }

    /// The recipients, in the order in which they came.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = Address<'_>> {
        self.recipients.iter().map(|&place| self.address(place))
    }

    /// How many recipients there are.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        self.recipients.len()
    }

    /// Whether the sender declared `BODY=8BITMIME` (RFC 6152).
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Sets what [`Envelope::is_eight_bit`] says.
    pub fn set_eight_bit(&mut self, eight_bit: bool) {
        self.eight_bit = eight_bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_gives_back_what_it_was_given() {
        let mut envelope = Envelope::default();
        for _ in 0..2 {
            envelope.begin(ReversePath::Address(Address::parse("a@b.example").unwrap()));
            envelope.push_recipient(Address::parse("c@d.example").unwrap());
            envelope.push_recipient(Address::parse("\"e f\"@g.example").unwrap());
            assert_eq!(envelope.reverse_path().text(), "a@b.example");
            let recipients: Vec<_> = envelope.recipients().map(|to| (to.local_part(), to.domain())).collect();
            assert_eq!(recipients, [("c", "d.example"), ("\"e f\"", "g.example")]);
        }
        envelope.begin(ReversePath::Null);
        assert_eq!(envelope.reverse_path(), ReversePath::Null);
        assert_eq!(envelope.recipient_count(), 0);
    }
}
