//! What a cluster says when it is asked to be downgraded: whether etcd could, and that Holdfast cannot.
//!
//! Worked example: at 3.7, `validate 3.6` succeeds, `validate 3.5` is an invalid target, and
//! `enable 3.6` is refused, because no etcd reads the data's format.

use holdfast_core::membership::Version;
use holdfast_core::query::Downgrade;
use holdfast_core::rejection::Rejection;

/// The answer of a cluster at this version: etcd's checks in etcd's order.
pub(super) fn answer(asked: &Downgrade, cluster: Option<Version>) -> Result<Version, Rejection> {
    match asked {
        Downgrade::Validate(target) => validate(target, cluster),
        Downgrade::Enable(target) => {
            validate(target, cluster)?;
            Err(Rejection::DowngradeUnsupported)
        }
        // There is never one to be stopped, which etcd answers with success.
        Downgrade::Cancel => cluster.ok_or(Rejection::ClusterVersionUnavailable),
    }
}

fn validate(target: &str, cluster: Option<Version>) -> Result<Version, Rejection> {
    let target = parse(target).ok_or(Rejection::WrongDowngradeVersionFormat)?;
    let cluster = cluster.ok_or(Rejection::ClusterVersionUnavailable)?;
    let allowed = (i64::from(cluster.major), i64::from(cluster.minor) - 1);
    match target == allowed {
        true => Ok(cluster),
        false => Err(Rejection::InvalidDowngradeTargetVersion),
    }
}

/// Major and minor of a semantic version; the patch may be left out.
fn parse(text: &str) -> Option<(i64, i64)> {
    let plain = text.split(['-', '+']).next()?;
    let numbers: Option<Vec<i64>> = plain.split('.').map(number).collect();
    match numbers?[..] {
        [major, minor] if plain == text => Some((major, minor)),
        [major, minor, _] => Some((major, minor)),
        _ => None,
    }
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_are_etcd_s() {
        let own = Some(Version { major: 3, minor: 7 });
        let validate = |target: &str, cluster| answer(&Downgrade::Validate(target.into()), cluster);
        for good in ["3.6", "3.6.0", "3.6.12", "3.6.0-rc.1"] {
            assert_eq!(validate(good, own), Ok(Version { major: 3, minor: 7 }), "{good}");
        }
        for bad in ["3.7", "3.5", "3.8.0", "2.6.0"] {
            assert_eq!(validate(bad, own), Err(Rejection::InvalidDowngradeTargetVersion), "{bad}");
        }
        for bad in ["", "3", "3.x", "v3.6", "3.6.0.1", "-3.6"] {
            assert_eq!(validate(bad, own), Err(Rejection::WrongDowngradeVersionFormat), "{bad}");
        }
        assert_eq!(validate("3.6", None), Err(Rejection::ClusterVersionUnavailable));
        let enable = answer(&Downgrade::Enable("3.6".into()), own);
        assert_eq!(enable, Err(Rejection::DowngradeUnsupported));
        let enable = answer(&Downgrade::Enable("3.5".into()), own);
        assert_eq!(enable, Err(Rejection::InvalidDowngradeTargetVersion));
        assert!(answer(&Downgrade::Cancel, own).is_ok());
    }
}
