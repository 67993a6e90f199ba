//! What an event is: one type that says what it is called, what it means, what its record holds and where it
//! counts. Log, metrics and the page of events are made from that and from nothing else.

use std::fmt::Display;

use crate::value::Kind;

/// What an event says of itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// A stable lower-case word.
    pub name: &'static str,
    /// What happened and when it is recorded, in sentences.
    pub meaning: &'static str,
    /// The metric that counts or shows the same, where there is one.
    pub metric: Option<&'static str>,
    /// What its record holds after `time`, `event` and `node`, in order.
    pub fields: &'static [Field],
}

/// A field of a record.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// A stable lower-case word.
    pub name: &'static str,
    /// What its value is, in sentences.
    pub meaning: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// Whether a record may lack it.
    pub is_optional: bool,
}

/// What a record holds. Several events may hold the same.
pub trait Facts {
    /// The fields, in the order in which they are told.
    const FIELDS: &'static [Field];

    /// Tells every fact that there is.
    fn tell(&self, to: &mut impl Sink);
}

/// Something that happened. Types of events are made by [`events!`](crate::events), and stand in the crate
/// that records them.
pub trait Event: Facts {
    /// Its name and its meaning.
    const ABOUT: About;

    /// Where it counts; `()` where it does not, or is counted elsewhere.
    type Metrics: ?Sized;

    /// Moves the metric.
    fn count(&self, metrics: &Self::Metrics);
}

/// What takes the facts of events: the log is one.
pub trait Sink {
    /// Whatever prints as text.
    fn display(&mut self, name: &'static str, value: impl Display);

    /// A number.
    fn number(&mut self, name: &'static str, value: u64);

    /// Yes or no.
    fn bool(&mut self, name: &'static str, value: bool);

    /// A text.
    fn str(&mut self, name: &'static str, value: &str) {
        self.display(name, value);
    }
}

/// Declares what a record holds, for events that share it.
///
/// The documentation of a field is its meaning on the page of events; a field without it does not compile.
#[macro_export]
macro_rules! facts {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $Facts:ident $(<$life:lifetime>)? {
            $($(#[doc = $meaning:literal])+ $field:ident: $Type:ty),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        $vis struct $Facts $(<$life>)? {
            $($(#[doc = $meaning])+ $vis $field: $Type,)+
        }

        impl $(<$life>)? $crate::Facts for $Facts $(<$life>)? {
            const FIELDS: &'static [$crate::Field] = &[$(
                $crate::Field {
                    name: stringify!($field),
                    meaning: concat!($($meaning),+).trim_ascii(),
                    kind: <$Type as $crate::Value>::KIND,
                    is_optional: <$Type as $crate::Value>::IS_OPTIONAL,
                },
            )+];

            fn tell(&self, to: &mut impl $crate::Sink) {
                $($crate::Value::tell(&self.$field, stringify!($field), to);)+
            }
        }
    };
}

/// Declares the events of a crate, and the list of what they say of themselves, from which their page is made.
///
/// The documentation of an event is its meaning on the page of events; an event without it does not compile.
/// After its name stand its fields in braces, or in parentheses the [`facts!`](crate::facts) that it shares with
/// others. `metric` names the metric that counts or shows the same, and `counts` moves it.
///
/// ```
/// use observe::{Registry, WorkerMetrics};
///
/// observe::events! {
///     pub const EVENTS;
///
///     /// The tea is ready. Recorded once a pot.
///     pub struct Brewed<'a> = "brewed" {
///         /// The sort of tea.
///         tea: &'a str,
///         /// How long it has brewed.
///         seconds: Option<u64>,
///     }
///
///     /// The pot broke.
///     pub struct Broken = "broken" {
///         /// In how many pieces it is.
///         pieces: u64,
///     }
///     metric "pieces_total"
///     counts |broken, metrics: &WorkerMetrics| {
///         (0..broken.pieces).for_each(|_| metrics.possible_duplicate());
///     }
/// }
///
/// let (tea, broken) = (Brewed { tea: "oolong", seconds: None }, Broken { pieces: 3 });
/// let registry = Registry::new(1, &["smtp"], 1);
/// let mut log = observe::EventLog::discarding();
/// log.record(&tea, mail::UnixMillis(0));
/// log.record_and_count(&broken, &registry.worker(0), mail::UnixMillis(0));
/// assert_eq!(EVENTS.map(|about| about.name), ["brewed", "broken"]);
/// ```
///
/// What counts is not recorded without being counted:
///
/// ```compile_fail,E0271
/// observe::events! {
///     /// The pot broke.
///     pub struct Broken = "broken" {
///         /// In how many pieces it is.
///         pieces: u64,
///     }
///     metric "pieces_total"
///     counts |_broken, metrics: &observe::WorkerMetrics| { metrics.possible_duplicate(); }
/// }
/// observe::EventLog::discarding().record(&Broken { pieces: 3 }, mail::UnixMillis(0));
/// ```
#[macro_export]
macro_rules! events {
    (@facts [$($doc:literal)+] [$($life:lifetime)?] $vis:vis $Event:ident { $($fields:tt)+ }) => {
        $crate::facts! {
            $(#[doc = $doc])+
            $vis struct $Event $(<$life>)? { $($fields)+ }
        }
    };
    (@facts [$($doc:literal)+] [$($life:lifetime)?] $vis:vis $Event:ident ($Facts:ty)) => {
        $(#[doc = $doc])+
        $vis struct $Event $(<$life>)? ($vis $Facts);

        impl $(<$life>)? $crate::Facts for $Event $(<$life>)? {
            const FIELDS: &'static [$crate::Field] = <$Facts as $crate::Facts>::FIELDS;

            fn tell(&self, to: &mut impl $crate::Sink) {
                $crate::Facts::tell(&self.0, to);
            }
        }
    };
    (@metric) => { None };
    (@metric $metric:literal) => { Some($metric) };
    (@counts) => {
        type Metrics = ();

        fn count(&self, (): &()) {}
    };
    (@counts |$event:ident, $metrics:ident: &$Metrics:ty| $count:block) => {
        type Metrics = $Metrics;

        fn count(&self, $metrics: &$Metrics) {
            let $event = self;
            $count
        }
    };
    (@list [] $($name:literal $Event:ident),+) => {};
    (@list [$vis:vis const $EVENTS:ident] $($name:literal $Event:ident),+) => {
        /// What each event of this crate says of itself.
        $vis const $EVENTS: [$crate::About; [$($name),+].len()] = [$(<$Event as $crate::Event>::ABOUT),+];
    };
    ($($list_vis:vis const $EVENTS:ident;)? $(
        $(#[doc = $doc:literal])+
        $vis:vis struct $Event:ident $(<$life:lifetime>)? = $name:literal $facts:tt
        $(metric $metric:literal)?
        $(counts |$event:ident, $metrics:ident: &$Metrics:ty| $count:block)?
    )+) => {
        $(
            $crate::events!(@facts [$($doc)+] [$($life)?] $vis $Event $facts);

            impl $(<$life>)? $crate::Event for $Event $(<$life>)? {
                const ABOUT: $crate::About = $crate::About {
                    name: $name,
                    meaning: concat!($($doc),+).trim_ascii(),
                    metric: $crate::events!(@metric $($metric)?),
                    fields: <Self as $crate::Facts>::FIELDS,
                };

                $crate::events!(@counts $(|$event, $metrics: &$Metrics| $count)?);
            }
        )+

        $crate::events!(@list [$($list_vis const $EVENTS)?] $($name $Event),+);
    };
}

#[cfg(test)]
mod tests;
