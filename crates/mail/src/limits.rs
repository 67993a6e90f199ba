//! The bounds that hold before anyone configures one: the sizes of a session's own buffers.

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

/// Recipients of one transaction where the tenant writes no smaller number. RFC 5321 section
/// 4.5.3.1.8 asks for at least 100; past this the client gets 452 and comes again, as it must.
pub const RECIPIENTS_MAX: usize = 10_000;

/// A body larger than this goes to a file of its own as it arrives.
pub const INLINE_BODY_BYTES_MAX: usize = 1 << 20;

/// A header section as a bounce quotes it: room for any sane header, and a bound on what a hostile
/// one costs.
pub const HEADER_SECTION_BYTES_MAX: usize = 32 << 10;

/// Errors of one session (refused or unknown commands) before it is closed with 421.
pub const SESSION_ERRORS_MAX: u32 = 20;

/// Commands in a row that carry no mail (NOOP, RSET, VRFY, HELP, EHLO) before the session is closed with 421.
pub const SESSION_IDLE_COMMANDS_MAX: u32 = 1000;

/// A From, Reply-To or Sender field that is checked, folds included: room for fifty addresses with
/// names. A longer one is refused where it is checked, for it is not kept whole.
pub const HEADER_FIELD_BYTES_MAX: usize = 8192;

/// Received fields in a message before it counts as a loop (RFC 5321 section 6.3 asks for 100 at
/// least; relay-control.md B3 says 50).
pub const RECEIVED_FIELDS_MAX: usize = 50;

/// Iterations of a SCRAM-SHA-256 verifier (RFC 7677 section 4: at least 4096).
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;

/// Iterations of a SCRAM-SHA-256 verifier: past this a PLAIN login would cost a quarter of a second.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// Bytes of a SCRAM salt: fewer make it easy to find two that are equal.
pub const SCRAM_SALT_BYTES_MIN: usize = 8;

/// Bytes of a SCRAM salt: as many as an unknown login's salt can be made of.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;
