//! The present in the portal's time zone: which day it is there, and when a day ends.

use jiff::tz::TimeZone;
use time::{Date, OffsetDateTime, Time};

/// A time zone, as HubSpot names the portal's (`US/Eastern`, `Europe/Berlin`).
#[derive(Debug, Clone, PartialEq)]
pub struct PortalZone(TimeZone);

/// A name that is none of the IANA time zone database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone")]
pub struct UnknownTimeZone(String);

impl PortalZone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The time zone with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, UnknownTimeZone> {
        TimeZone::get(name).map(Self).map_err(|_| UnknownTimeZone(name.to_owned()))
    }
}

/// The present, with the time zone in which its day is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalTime {
    /// The present.
    pub now: OffsetDateTime,
    /// The time zone.
    pub zone: PortalZone,
}

/// The last second of a day.
const END_OF_DAY: Time = time::macros::time!(23:59:59);

impl LocalTime {
    /// The present in `zone`.
    pub fn new(now: OffsetDateTime, zone: PortalZone) -> Self {
        Self { now, zone }
    }

    /// The day that it is there, in ISO 8601.
    pub fn today(&self) -> String {
        let there = jiff::Timestamp::from_second(self.now.unix_timestamp())
            .map(|now| now.to_zoned_datetime(self.zone.0.clone()));
        there.map_or_else(|_| self.now.date().to_string(), |there| there.date().to_string())
    }

    /// The last second of a day there.
    pub(crate) fn end_of(&self, day: Date) -> OffsetDateTime {
        let utc = day.with_time(END_OF_DAY).assume_utc();
        let local = || {
            let year = i16::try_from(day.year()).ok()?;
            let day = i8::try_from(day.day()).ok()?;
            let month = i8::try_from(u8::from(utc.month())).ok()?;
            let local = jiff::civil::Date::new(year, month, day).ok()?.at(23, 59, 59, 0);
            let there = local.to_zoned_datetime(self.zone.0.clone()).ok()?;
            OffsetDateTime::from_unix_timestamp(there.timestamp().as_second()).ok()
        };
        local().unwrap_or(utc)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::{LocalTime, PortalZone};

    #[test]
    fn the_day_is_that_of_the_portal() {
        let late = datetime!(2026-11-24 23:30 UTC);
        for (zone, day) in [("UTC", "2026-11-24"), ("Europe/Berlin", "2026-11-25"), ("US/Pacific", "2026-11-24")] {
            let local = LocalTime::new(late, PortalZone::named(zone).expect(zone));
            assert_eq!(local.today(), day, "{zone}");
        }
        assert_eq!(PortalZone::named("Mars/Olympus").expect_err("none").to_string(), "`Mars/Olympus` is no time zone");
    }

    #[test]
    fn a_day_ends_with_its_last_second_in_summer_and_in_winter() {
        let local = |zone| LocalTime::new(datetime!(2026-11-24 12:00 UTC), PortalZone::named(zone).expect(zone));
        assert_eq!(local("US/Eastern").end_of(date!(2026 - 12 - 01)), datetime!(2026-12-02 4:59:59 UTC));
        assert_eq!(local("US/Eastern").end_of(date!(2026 - 07 - 01)), datetime!(2026-07-02 3:59:59 UTC));
        assert_eq!(local("Pacific/Auckland").end_of(date!(2026 - 12 - 01)), datetime!(2026-12-01 10:59:59 UTC));
    }
}
