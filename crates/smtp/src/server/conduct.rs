use mail::limits::SessionLimits;

/// So much of a message is a step: at least that is to come in the time that a client has for one. 45 bytes a
/// second where it is three minutes, less than the slowest modem brings.
const STEP_BYTES: usize = 8 << 10;

/// How far a client has come, and how often it went wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// See [`super::Session::steps`].
    pub(super) steps: u32,
    /// See [`super::Session::carried`].
    pub(super) carried: u32,
    /// Of the message that comes in, what is no step yet.
    step_bytes: usize,
    /// Since the last message that was taken.
    errors: u32,
    /// Since mail was last carried.
    idle_commands: u32,
}

impl Conduct {
    pub(super) fn step(&mut self) {
        self.steps = self.steps.wrapping_add(1);
    }

    pub(super) fn message_begins(&mut self) {
        self.step_bytes = 0;
    }

    /// So many bytes of a message were looked at.
    pub(super) fn step_by(&mut self, bytes: usize) {
        self.step_bytes += bytes;
        if self.step_bytes >= STEP_BYTES {
            self.step_bytes = 0;
            self.step();
            self.carried = self.carried.wrapping_add(1);
        }
    }

    /// A recipient was taken: this client carries mail.
    pub(super) fn recipient_taken(&mut self) {
        self.idle_commands = 0;
        self.carried = self.carried.wrapping_add(1);
    }

    /// A message was taken: what went wrong before is forgiven.
    pub(super) fn message_taken(&mut self) {
        self.errors = 0;
        self.recipient_taken();
    }

    /// Counts errors; true where they are too many.
    pub(super) fn too_many_errors(&mut self, errors: u32, limits: &SessionLimits) -> bool {
        self.errors = self.errors.saturating_add(errors);
        self.errors >= limits.errors_max
    }

    /// Counts a command that carries no mail; true where they are too many.
    pub(super) fn too_many_idle_commands(&mut self, limits: &SessionLimits) -> bool {
        self.idle_commands += 1;
        self.idle_commands > limits.idle_commands_max
    }
}
