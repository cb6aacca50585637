//! The lines that phones and mail programs write under a mail.

use super::mail::plain_lower;

/// Whether a phone or a mail program has written this line under the mail.
pub(super) fn is_mobile_signature(line: &str) -> bool {
    /// How such a line begins, whatever follows.
    const CERTAIN: [&str; 20] = [
        "sent from my ",
        "get outlook for ",
        "holen sie sich outlook",
        "laden sie outlook",
        "envoyé de mon ",
        "télécharger outlook",
        "téléchargez outlook",
        "obtenir outlook",
        "obtenez outlook",
        "enviado desde mi ",
        "obtener outlook",
        "enviado do meu ",
        "obter o outlook",
        "baixe o outlook",
        "inviato dal mio ",
        "ottieni outlook",
        "scarica outlook",
        "verzonden vanaf mijn ",
        "verstuurd vanaf mijn ",
        "outlook voor ",
    ];
    /// How it begins if it also names a device or program.
    const LIKELY: [&str; 14] = [
        "sent from ",
        "sent via ",
        "sent with ",
        "von meinem ",
        "gesendet von ",
        "gesendet mit ",
        "envoyé depuis ",
        "envoyé à partir ",
        "enviado desde ",
        "enviado a partir ",
        "enviado do ",
        "inviato da ",
        "verzonden vanaf ",
        "verstuurd vanaf ",
    ];
    const DEVICES: [&str; 17] = [
        "iphone",
        "ipad",
        "android",
        "samsung",
        "galaxy",
        "huawei",
        "xiaomi",
        "pixel",
        "blackberry",
        "mobil",
        "handy",
        "smartphone",
        "outlook",
        "yahoo",
        "gmail",
        "gmx",
        "mail",
    ];
    let line = plain_lower(line);
    line.chars().count() <= 80
        && (CERTAIN.iter().any(|start| line.starts_with(start))
            || LIKELY.iter().any(|start| line.starts_with(start)) && DEVICES.iter().any(|device| line.contains(device)))
}

#[cfg(test)]
mod tests {
    use crate::text::without_quoted_history;

    #[test]
    fn signatures_of_phones_are_cut_and_words_that_resemble_them_are_not() {
        for signature in [
            "Sent from my iPhone",
            "Get Outlook for iOS",
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
