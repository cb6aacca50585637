//! The lines that phones and mail programs write under a mail.

use super::mail::plain_lower;

/// Whether a phone or a mail program has written this line under the mail: nothing but how it was sent, and with which
/// device or program.
pub(super) fn is_mobile_signature(line: &str) -> bool {
    const SENT: [&str; 17] = [
        "sent from ",
        "sent via ",
        "sent with ",
        "von meinem ",
        "gesendet von ",
        "gesendet mit ",
        "envoyé de mon ",
        "envoyé depuis ",
        "envoyé à partir ",
        "enviado desde ",
        "enviado a partir ",
        "enviado do ",
        "inviato da ",
        "inviato dal mio ",
        "verzonden vanaf ",
        "verstuurd vanaf ",
        "verzonden met ",
    ];
    const DEVICES: [&str; 21] = [
        "phone",
        "ipad",
        "tablet",
        "android",
        "samsung",
        "galaxy",
        "huawei",
        "xiaomi",
        "pixel",
        "blackberry",
        "mobil",
        "móvil",
        "handy",
        "telefon",
        "téléphone",
        "telefoon",
        "outlook",
        "yahoo",
        "gmail",
        "gmx",
        "mail",
    ];
    /// How the line begins that advertises Outlook.
    const OUTLOOK: [&str; 13] = [
        "get outlook for ",
        "holen sie sich outlook ",
        "laden sie outlook ",
        "télécharger outlook ",
        "téléchargez outlook ",
        "obtenir outlook ",
        "obtenez outlook ",
        "obtener outlook ",
        "obter o outlook ",
        "baixe o outlook ",
        "ottieni outlook ",
        "scarica outlook ",
        "download outlook ",
    ];
    const SYSTEMS: [&str; 4] = ["ios", "android", "windows", "mac"];
    let line = plain_lower(line);
    let begins_with = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
    // What goes on after a device is what somebody has to say.
    let is_one_phrase = line.chars().count() <= 80
        && !line.trim_end_matches('.').contains([',', ':', '!', '?', ';'])
        && !line.contains(". ");
    let in_dutch = line.strip_prefix("outlook voor ").map(|rest| rest.trim_end_matches(" downloaden"));
    is_one_phrase
        && (begins_with(&SENT) && DEVICES.iter().any(|device| line.contains(device))
            || begins_with(&OUTLOOK) && SYSTEMS.iter().any(|system| line.split(' ').any(|word| word == *system))
            || in_dutch.is_some_and(|system| SYSTEMS.contains(&system)))
}

#[cfg(test)]
mod tests {
    use crate::text::without_quoted_history;

    #[test]
    fn signatures_of_phones_are_cut_and_words_that_resemble_them_are_not() {
        for signature in [
            "Sent from my iPhone",
            "Get Outlook for iOS",
            "Laden Sie Outlook für Android herunter",
            "Outlook voor iOS downloaden",
            "Outlook voor Android",
            "Sent from Outlook for Android",
            "Sent from Yahoo Mail",
            "Von meinem iPhone gesendet",
            "Gesendet von Mail für Windows",
            "Gesendet mit der GMX Mail App",
            "Envoyé de mon iPhone",
            "Envoyé depuis mon mobile",
            "Enviado desde mi iPhone",
            "Enviado do meu iPhone",
            "Inviato da iPhone",
            "Inviato dal mio telefono",
            "Verzonden vanaf mijn iPad",
            "Verstuurd vanaf mijn Samsung",
        ] {
            assert_eq!(without_quoted_history(&format!("No.\n\n{signature}")), "No.", "{signature}");
        }
        for words in
            ["Sent via courier on Monday.", "Gesendet von Jon, nicht von mir.", "Outlook crashed.", "Am Montag."]
        {
            assert_eq!(without_quoted_history(&format!("No.\n{words}\nBye")), format!("No.\n{words}\nBye"));
        }
    }
}
