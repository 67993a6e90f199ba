use crate::address::{Address, ReversePath};

/// The envelope of one transaction: reverse-path and recipients (RFC 5321 section 2.3.1).
///
/// Its texts share one buffer that is kept between transactions, so that a session collects
/// envelopes without allocating.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    text: String,
    /// End of the reverse-path in `text`; 0 is the null reverse-path.
    reverse_path_end: usize,
    /// End of each recipient in `text`; it begins where the one before it ends.
    recipient_ends: Vec<usize>,
    eight_bit: bool,
}

impl Envelope {
    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        self.text.clear();
        self.reverse_path_end = 0;
        self.recipient_ends.clear();
        self.eight_bit = false;
    }

    /// Starts over with a reverse-path.
    pub fn begin(&mut self, from: ReversePath<'_>) {
        self.clear();
        self.text.push_str(from.text());
        self.reverse_path_end = self.text.len();
    }

    /// Adds a recipient.
    pub fn push_recipient(&mut self, to: Address<'_>) {
        self.text.push_str(to.text());
        self.recipient_ends.push(self.text.len());
    }

    /// The reverse-path.
    ///
    /// # Panics
    /// Never: what went in was a valid path.
    #[must_use]
    pub fn reverse_path(&self) -> ReversePath<'_> {
        match &self.text[..self.reverse_path_end] {
            "" => ReversePath::Null,
            text => ReversePath::Address(Address::parse(text).expect("it went in as an address")),
        }
    }

    /// The recipients, in the order in which they came.
    ///
    /// # Panics
    /// Never: what went in were valid addresses.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = Address<'_>> {
        (0..self.recipient_ends.len()).map(|index| {
            let start =
                index.checked_sub(1).map_or(self.reverse_path_end, |before| self.recipient_ends[before]);
            Address::parse(&self.text[start..self.recipient_ends[index]]).expect("it went in as an address")
        })
    }

    /// How many recipients there are.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        self.recipient_ends.len()
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
            let recipients: Vec<_> = envelope.recipients().map(|to| to.text().to_owned()).collect();
            assert_eq!(recipients, ["c@d.example", "\"e f\"@g.example"]);
        }
        envelope.begin(ReversePath::Null);
        assert_eq!(envelope.reverse_path(), ReversePath::Null);
        assert_eq!(envelope.recipient_count(), 0);
    }
}
