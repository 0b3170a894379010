"""The words by which names of columns are judged, in a few languages of Europe. What follows from them is decided where they are used."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SQL = _words("""
    all and any as asc between by case cast check column constraint create cross current date default delete desc distinct drop else end
    except exists false fetch filter for foreign from full grant group having in index inner insert interval into intersect is join key
    left like limit natural not null offset on or order outer over partition primary range references right row rows select set some
    table then time timestamp to true union unique update user using values view when where window with
""")
"""Keywords, which a query would have to quote."""

IDENTIFIER = _words("""
    id code key nr no uuid guid sku ean gtin isbn issn iban bic zip plz postcode postal phone tel telephone telefon mobile card account
    konto barcode reference ref serial
""")
"""At the end of a name: digits that are no quantity."""

KEY = _words("id key code nr no number uuid isbn sku reference line pos position")
"""A column that may tell rows apart."""

DATE = _words("date day datum tag fecha data jour on at")
"""A column in which eight digits may be a day."""

WHEN = _words("date day time at on when timestamp datum zeit tag fecha created ordered sold measured taken")
"""When a row happened."""

NOT_WHEN = _words("""
    birth birthday geburtstag dob due end ended until valid expiry expires returned updated modified closed deleted
""")
"""Dates of something else, or of a later change."""

LEVEL = _words("""
    temperature temp humidity pressure price rate percent percentage share ratio score level age mean average avg speed latitude
    longitude lat lon lng height depth ph voltage grade rating preis alter temperatur
""")
"""Numbers of which an average says more than a sum."""

NO_MEASURE = _words("year jahr month week weekday hour sequence seq version latitude longitude lat lon lng")
"""Numbers that nobody adds up."""

OPERATION = _words("op operation action event type")
"""A column that says what a change event does."""

OPERATIONS = _words("insert update delete upsert create i u d c")
"""What change events do."""

SEQUENCE = _words("sequence seq lsn version")
"""A column that numbers change events."""

PERSONAL = _words("""
    email mail emailadresse phone telephone tel telefon telefono mobile handy fax surname lastname firstname forename vorname nachname
    familienname prenom apellido apellidos cognome address adresse anschrift direccion indirizzo street strasse rue calle birth birthday
    birthdate dob geburtstag geburtsdatum naissance nacimiento iban bic pan ssn passport ausweis reisepass ip ipaddress username login
    nickname
""")
"""Personal data, whatever else a name says."""

PERSONAL_PAIRS = frozenset(
    {
        ("first", "name"),
        ("last", "name"),
        ("family", "name"),
        ("given", "name"),
        ("full", "name"),
        ("middle", "name"),
        ("maiden", "name"),
        ("date", "birth"),
        ("card", "number"),
        ("card", "no"),
        ("account", "number"),
        ("social", "security"),
        ("tax", "id"),
        ("e", "mail"),
    }
)
"""The same of two words that follow each other, or have one between them."""

PEOPLE = _words("""
    customer client patient member reader borrower employee staff person contact student pupil guest driver doctor nurse teacher user
    owner tenant subscriber donor applicant recipient kunde kunden patienten mitglied mitarbeiter person personen ansprechpartner leser
    schueler cliente paciente socio empleado persona utente
""")
"""Who has a name of their own."""

NAME = _words("name nom nombre nome")
"""The name of a person or of a thing."""

TOTAL = _words("""
    total totals subtotal totaal subtotaal totaux totale totali totales sum sums summe summen gesamt gesamtsumme gesamtbetrag
    zwischensumme insgesamt endsumme somme suma soma razem ogolem summa yhteensa ialt
""")
"""In a row that adds up others."""

TOTAL_BESIDE = _words("grand sub general generale generaal geral the of all de du in eur usd gbp chf net gross netto brutto")
"""May be next to such a word."""
