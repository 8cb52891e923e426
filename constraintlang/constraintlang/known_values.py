"""What the libraries behind `language(...)` and `pii(...)` know, so that a policy is told before it runs.

A newer library may know more, which is why an unknown value is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping

from constraintlang import nodes as n
from constraintlang.fixes import replacing
from constraintlang.report import Report
from constraintlang.situations import shown
from constraintlang.suggestions import closest

_LANGUAGES = """
    ace Acehnese, af Afrikaans, am Amharic, an Aragonese, ar Arabic, ary Moroccan Arabic, arz Egyptian
    Arabic, as Assamese, az Azerbaijani, ba Bashkir, bcl Central Bikol, be Belarusian, bg Bulgarian, bn
    Bengali, br Breton, bs Bosnian, ca Catalan, crh Crimean Tatar, cs Czech, cy Welsh, da Danish, de
    German/Deutsch, dz Dzongkha, el Greek, en English, eo Esperanto, es Spanish/español/espanol, et
    Estonian, eu Basque, ext Extremaduran, fa Persian, fi Finnish, fo Faroese, fr French/français/francais,
    fuv Nigerian Fulfulde, fy Western Frisian, ga Irish, gcf Guadeloupean Creole, gcr Guianese Creole, gd
    Scottish Gaelic, gl Galician, gom Goan Konkani, grc Ancient Greek, gu Gujarati, gug Paraguayan Guarani,
    guw Gun, ha Hausa, hbo Ancient Hebrew, he Hebrew, hi Hindi, hr Croatian, ht Haitian Creole, hu
    Hungarian, hy Armenian, id Indonesian, ig Igbo, is Icelandic, it Italian/italiano, ja Japanese, jv
    Javanese, ka Georgian, kab Kabyle, kik Kikuyu, kk Kazakh, km Khmer, kn Kannada, ko Korean, ku Kurdish,
    ky Kyrgyz, la Latin, lb Luxembourgish, lg Ganda, lij Ligurian, ln Lingala, lo Lao, lt Lithuanian, ltg
    Latgalian, lv Latvian, mg Malagasy, mk Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt
    Maltese, my Burmese, nb Norwegian Bokmål, ne Nepali, nl Dutch/Nederlands, nn Norwegian Nynorsk, no
    Norwegian/norsk, nso Northern Sotho, oc Occitan, om Oromo, or Odia, pa Punjabi, pcm Nigerian Pidgin, pl
    Polish/polski, ps Pashto, pt Portuguese/português/portugues, qu Quechua, ro Romanian, ru Russian, rw
    Kinyarwanda, sa Sanskrit, sdh Southern Kurdish, se Northern Sami, si Sinhala, sk Slovak, sl Slovenian,
    sn Shona, so Somali, sq Albanian, sr Serbian, st Southern Sotho, sv Swedish/svenska, sw Swahili, ta
    Tamil, te Telugu, tg Tajik, th Thai, tk Turkmen, tl Tagalog, tr Turkish, tt Tatar, ug Uyghur, uk
    Ukrainian, ur Urdu, uz Uzbek, uzs Southern Uzbek, vec Venetian, vi Vietnamese, vo Volapük, wa Walloon,
    wuu Wu Chinese, xh Xhosa, yo Yoruba, yue Cantonese, zh Chinese/Mandarin, zu Zulu, zxx no language
"""
_PERSONAL_DATA = """
    any ABA_ROUTING_NUMBER AU_ABN AU_ACN AU_MEDICARE AU_TFN CA_POSTAL_CODE CA_SIN CREDIT_CARD CRYPTO
    DATE_TIME DE_BSNR DE_FUEHRERSCHEIN DE_HANDELSREGISTER DE_HEALTH_INSURANCE DE_ID_CARD DE_KFZ DE_LANR
    DE_PASSPORT DE_PLZ DE_SOCIAL_SECURITY DE_TAX_ID DE_TAX_NUMBER DE_VAT_ID EMAIL_ADDRESS ES_NIE ES_NIF
    ES_PASSPORT FI_PERSONAL_IDENTITY_CODE IBAN_CODE IN_AADHAAR IN_GSTIN IN_PAN IN_PASSPORT
    IN_VEHICLE_REGISTRATION IN_VOTER IP_ADDRESS IT_DRIVER_LICENSE IT_FISCAL_CODE IT_IDENTITY_CARD
    IT_PASSPORT IT_VAT_CODE KR_BRN KR_DRIVER_LICENSE KR_FRN KR_PASSPORT KR_RRN MAC_ADDRESS MEDICAL_LICENSE
    NG_NIN NG_VEHICLE_REGISTRATION PHONE_NUMBER PH_PASSPORT PH_TIN PH_UMID PL_PESEL SE_ORGANISATIONSNUMMER
    SE_PERSONNUMMER SG_NRIC_FIN SG_UEN TH_TNIN TR_LICENSE_PLATE TR_NATIONAL_ID UK_DRIVING_LICENCE UK_NHS
    UK_NINO UK_PASSPORT UK_POSTCODE UK_VEHICLE_REGISTRATION URL US_BANK_NUMBER US_CLAIM_NUMBER
    US_DRIVER_LICENSE US_HEALTH_INSURANCE_MEMBER_ID US_ITIN US_MBI US_NPI US_PASSPORT US_PRESCRIPTION_NUMBER
    US_PRIOR_AUTHORIZATION_NUMBER US_PROVIDER_TAX_ID US_REFERRAL_NUMBER US_SSN UUID ZA_COMPANY_REGISTRATION
    ZA_DRIVER_LICENSE ZA_ID_NUMBER ZA_INCOME_TAX_NUMBER ZA_LICENSE_PLATE ZA_MOBILE_NUMBER ZA_PASSPORT
    ZA_TELEPHONE_NUMBER ZA_TRAFFIC_REGISTER_NUMBER ZA_VAT_NUMBER
"""
KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "language": {
        code: tuple(names.split("/"))
        for code, names in (entry.split(maxsplit=1) for entry in _LANGUAGES.strip().split(","))
    },
    "pii": dict.fromkeys(_PERSONAL_DATA.split(), ()),
}
"""By backend: the values that it knows, and what else each of them is called."""
_KINDS = {
    "language": ("language", "write its code, such as `en`, `de` or `zh`"),
    "pii": (
        "kind of personal data",
        "write `any`, or one such as `EMAIL_ADDRESS`, `PHONE_NUMBER` or `CREDIT_CARD`",
    ),
}
"""By backend: what its values are, and what they look like where none is near: all of them would fill a screen."""


def check_known(argument: n.Scalar, function: str, report: Report) -> None:
    """PC115 where no library that this release was written for knows a value."""
    value, known = str(argument.value), KNOWN[function]
    if value in known:
        return
    kind, examples = _KINDS[function]
    near = nearest(value, known)
    fix = replacing(argument.span, f'"{near[0]}"') if len(near) == 1 else None
    if fix is not None:
        help = f'write `"{near[0]}"`'
    else:
        help = f"known are {', '.join(f'`{one}`' for one in near)}" if near else examples
    message = f"no {kind} that this release knows is called `{shown(value)}`"
    report.warning("PC115", argument.span, message, help, fix=fix)


def nearest(value: str, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The known values that may have been meant: by another name, a part of it, or a similar spelling.

    >>> nearest("english", KNOWN["language"]), nearest("en-US", KNOWN["language"]), nearest("SSN", KNOWN["pii"])
    (['en'], ['en'], ['US_SSN'])
    """
    wanted = value.lower().replace("-", "_")
    spelled = {name.lower(): code for code, names in known.items() for name in (code, *names)}
    for word in (wanted, wanted.partition("_")[0]):
        if word in spelled:
            return [spelled[word]]
    parts = [code for code in known if wanted in code.lower().split("_")]
    near = closest(wanted, spelled) if len(wanted) > 2 else None
    return parts or ([spelled[near]] if near else [])
