"""Facts about countries of the present, for models that have read about the real world.

Chapter: scaling. As of 2025, in the spelling of English newspapers, without accents. A hyphen
stands where there is no single clear answer: a capital in dispute or about to move, several
languages, a currency that changes or has several spellings, no continent or two. Countries whose
name takes "the" or is that of their capital are left out; England, Scotland and Wales count. The
world of `steerlib.world` has a table of its own.
"""

from __future__ import annotations

_TABLE = """
Albania, Tirana, Albanian, Europe, lek
Austria, Vienna, German, Europe, euro
Belarus, Minsk, -, Europe, ruble
Belgium, Brussels, -, Europe, euro
Bulgaria, Sofia, Bulgarian, Europe, -
Croatia, Zagreb, Croatian, Europe, euro
Czechia, Prague, Czech, Europe, koruna
Denmark, Copenhagen, Danish, Europe, krone
England, London, English, Europe, pound
Estonia, Tallinn, Estonian, Europe, euro
Finland, Helsinki, Finnish, Europe, euro
France, Paris, French, Europe, euro
Germany, Berlin, German, Europe, euro
Greece, Athens, Greek, Europe, euro
Hungary, Budapest, Hungarian, Europe, forint
Iceland, Reykjavik, Icelandic, Europe, krona
Ireland, Dublin, English, Europe, euro
Italy, Rome, Italian, Europe, euro
Latvia, Riga, Latvian, Europe, euro
Lithuania, Vilnius, Lithuanian, Europe, euro
Malta, Valletta, -, Europe, euro
Moldova, Chisinau, Romanian, Europe, leu
Montenegro, Podgorica, -, Europe, euro
North Macedonia, Skopje, Macedonian, Europe, denar
Norway, Oslo, Norwegian, Europe, krone
Poland, Warsaw, Polish, Europe, zloty
Portugal, Lisbon, Portuguese, Europe, euro
Romania, Bucharest, Romanian, Europe, leu
Russia, Moscow, Russian, -, ruble
Scotland, Edinburgh, English, Europe, pound
Serbia, Belgrade, Serbian, Europe, dinar
Slovakia, Bratislava, Slovak, Europe, euro
Slovenia, Ljubljana, Slovenian, Europe, euro
Spain, Madrid, Spanish, Europe, euro
Sweden, Stockholm, Swedish, Europe, krona
Switzerland, Bern, -, Europe, franc
Ukraine, Kyiv, Ukrainian, Europe, hryvnia
Wales, Cardiff, English, Europe, pound
Afghanistan, Kabul, -, Asia, afghani
Armenia, Yerevan, Armenian, -, dram
Azerbaijan, Baku, Azerbaijani, -, manat
Bahrain, Manama, Arabic, Asia, dinar
Bangladesh, Dhaka, Bengali, Asia, taka
Bhutan, Thimphu, Dzongkha, Asia, ngultrum
Cambodia, Phnom Penh, Khmer, Asia, riel
China, Beijing, Chinese, Asia, yuan
India, New Delhi, -, Asia, rupee
Indonesia, -, Indonesian, Asia, rupiah
Iran, Tehran, Persian, Asia, rial
Iraq, Baghdad, Arabic, Asia, dinar
Japan, Tokyo, Japanese, Asia, yen
Jordan, Amman, Arabic, Asia, dinar
Kazakhstan, Astana, -, -, tenge
Kyrgyzstan, Bishkek, -, Asia, som
Laos, Vientiane, Lao, Asia, kip
Lebanon, Beirut, Arabic, Asia, pound
Malaysia, Kuala Lumpur, Malay, Asia, ringgit
Mongolia, Ulaanbaatar, Mongolian, Asia, tugrik
Myanmar, Naypyidaw, Burmese, Asia, kyat
Nepal, Kathmandu, Nepali, Asia, rupee
North Korea, Pyongyang, Korean, Asia, won
Oman, Muscat, Arabic, Asia, rial
Pakistan, Islamabad, -, Asia, rupee
Qatar, Doha, Arabic, Asia, riyal
Saudi Arabia, Riyadh, Arabic, Asia, riyal
South Korea, Seoul, Korean, Asia, won
Syria, Damascus, Arabic, Asia, pound
Tajikistan, Dushanbe, Tajik, Asia, somoni
Thailand, Bangkok, Thai, Asia, baht
Turkey, Ankara, Turkish, -, lira
Turkmenistan, Ashgabat, Turkmen, Asia, manat
Uzbekistan, Tashkent, Uzbek, Asia, -
Vietnam, Hanoi, Vietnamese, Asia, dong
Algeria, Algiers, Arabic, Africa, dinar
Angola, Luanda, Portuguese, Africa, kwanza
Botswana, Gaborone, -, Africa, pula
Burkina Faso, Ouagadougou, -, Africa, franc
Cameroon, Yaounde, -, Africa, franc
Egypt, Cairo, Arabic, -, pound
Eritrea, Asmara, -, Africa, nakfa
Ethiopia, Addis Ababa, -, Africa, birr
Gabon, Libreville, French, Africa, franc
Ghana, Accra, -, Africa, cedi
Guinea, Conakry, -, Africa, franc
Kenya, Nairobi, -, Africa, shilling
Lesotho, Maseru, -, Africa, loti
Liberia, Monrovia, English, Africa, dollar
Libya, Tripoli, Arabic, Africa, dinar
Madagascar, Antananarivo, Malagasy, Africa, ariary
Malawi, Lilongwe, -, Africa, kwacha
Mali, Bamako, -, Africa, franc
Mauritania, Nouakchott, Arabic, Africa, ouguiya
Morocco, Rabat, Arabic, Africa, dirham
Mozambique, Maputo, -, Africa, metical
Namibia, Windhoek, -, Africa, dollar
Niger, Niamey, -, Africa, franc
Nigeria, Abuja, -, Africa, naira
Rwanda, Kigali, -, Africa, franc
Senegal, Dakar, -, Africa, franc
Sierra Leone, Freetown, -, Africa, leone
Somalia, Mogadishu, Somali, Africa, shilling
Sudan, Khartoum, Arabic, Africa, pound
Tanzania, Dodoma, Swahili, Africa, shilling
Togo, Lome, -, Africa, franc
Tunisia, Tunis, Arabic, Africa, dinar
Uganda, Kampala, -, Africa, shilling
Zambia, Lusaka, -, Africa, kwacha
Barbados, Bridgetown, English, North America, dollar
Belize, Belmopan, -, North America, dollar
Canada, Ottawa, -, North America, dollar
Costa Rica, San Jose, Spanish, North America, colon
Cuba, Havana, Spanish, North America, peso
El Salvador, San Salvador, Spanish, North America, dollar
Haiti, Port-au-Prince, -, North America, gourde
Honduras, Tegucigalpa, Spanish, North America, lempira
Jamaica, Kingston, English, North America, dollar
Mexico, Mexico City, Spanish, North America, peso
Nicaragua, Managua, Spanish, North America, cordoba
Argentina, Buenos Aires, Spanish, South America, peso
Brazil, Brasilia, Portuguese, South America, real
Chile, Santiago, Spanish, South America, peso
Colombia, Bogota, Spanish, South America, peso
Ecuador, Quito, Spanish, South America, dollar
Guyana, Georgetown, English, South America, dollar
Paraguay, Asuncion, -, South America, guarani
Peru, Lima, Spanish, South America, sol
Suriname, Paramaribo, Dutch, South America, dollar
Uruguay, Montevideo, Spanish, South America, peso
Venezuela, Caracas, Spanish, South America, bolivar
Australia, Canberra, English, -, dollar
Fiji, Suva, -, Oceania, dollar
New Zealand, Wellington, English, Oceania, dollar
Samoa, Apia, Samoan, Oceania, tala
"""
_ROWS = [line.split(", ") for line in _TABLE.strip().splitlines()]
COUNTRIES = tuple(row[0] for row in _ROWS)
FACTS: dict[str, dict[str, str]] = {
    relation: {row[0]: row[column] for row in _ROWS if row[column] != "-"}
    for column, relation in enumerate(("capital", "language", "continent", "currency"), 1)
}
