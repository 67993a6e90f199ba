//! The bounds that hold before anyone configures one: the sizes of a session's own buffers, and what a
//! session may cost by default.

/// What a session may cost: the node file's `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Errors (refused or unknown commands) without a message that was taken, before the session is
    /// closed with 421.
    pub errors_max: u32,
    /// Commands in a row that carry no mail (NOOP, RSET, VRFY, HELP, EHLO), before the session is closed
    /// with 421.
    pub idle_commands_max: u32,
    /// Recipients of one transaction where the tenant writes no number: past it 452, and the
    /// client comes again, as it must (RFC 5321 section 4.5.3.1.10). As many refused ones close the
    /// session with 421.
    pub recipients_max: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            // A person at a keyboard makes fewer; a guesser gets no more for a connection.
            errors_max: 20,
            // More than any client that keeps its connection open between two messages.
            idle_commands_max: 1000,
            // A hundred times what RFC 5321 section 4.5.3.1.8 asks for.
            recipients_max: 10_000,
        }
    }
}

/// A command line, its CRLF included (RFC 5321 section 4.5.3.1.4 asks for 512 at least; MAIL and
/// RCPT parameters and long VERP addresses need more).
pub const COMMAND_LINE_BYTES_MAX: usize = 4096;

/// A line of a SASL exchange, its CRLF included (RFC 4954 section 4: 12,288 octets).
pub const SASL_LINE_BYTES_MAX: usize = 12_288;

/// A local part; RFC 5321 says 64, mailing lists that encode a recipient in it do not.
pub const LOCAL_PART_BYTES_MAX: usize = 1024;

/// A domain (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;

/// A whole address.
pub const ADDRESS_BYTES_MAX: usize = LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX;

/// A body larger than this goes to a separate file as it arrives.
pub const INLINE_BODY_BYTES_MAX: usize = 1 << 20;

/// A header section as a bounce quotes it: room for any sane header, and a bound on what a hostile
/// one costs.
pub const HEADER_SECTION_BYTES_MAX: usize = 32 << 10;

/// A From, Reply-To or Sender field that is checked, folds included: room for fifty addresses with
/// names. A longer one is refused where it is checked, for it is not kept whole.
pub const HEADER_FIELD_BYTES_MAX: usize = 8192;

/// Received fields in a message before it counts as a loop (RFC 5321 section 6.3 asks for 100 at
/// least; DESIGN.md B3 has fewer).
pub const RECEIVED_FIELDS_MAX: usize = 50;

/// Iterations of a SCRAM-SHA-256 verifier (RFC 7677 section 4: at least 4096).
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;

/// Iterations of a SCRAM-SHA-256 verifier: past this a PLAIN login would cost a quarter of a second.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// Bytes of a SCRAM salt: fewer make it easy to find two that are equal.
pub const SCRAM_SALT_BYTES_MIN: usize = 8;

/// Bytes of a SCRAM salt: as many as an unknown login's salt can be made of.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;
