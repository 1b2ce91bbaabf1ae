"""Sentences to speak: one small grammar for each language, written for this project.

A template's words in braces are replaced by a phrase of that name; ``{number}`` becomes digits, which
eSpeak NG reads out. Every language yields hundreds of thousands of different sentences.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Grammar:
    templates: tuple[str, ...]
    phrases: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def sentence(self, rng: random.Random) -> str:
        slots = {name: rng.choice(choices) for name, choices in self.phrases.items()}
        text = rng.choice(self.templates).format(number=rng.randint(2, 99), **slots)
        return text[0].upper() + text[1:] + "."


def _grammar(templates: str, **phrases: str) -> _Grammar:
    def listed(text: str) -> tuple[str, ...]:
        return tuple(" ".join(phrase.split()) for phrase in text.split(","))

    return _Grammar(listed(templates), {name: listed(text) for name, text in phrases.items()})


_GRAMMARS = {
    "en-us": _grammar(
        """{subject} {verb} {object}, {subject} {verb} {object} {place}, {time} {subject} {verb} {object},
        {subject} {verb} {number} {things} {place}, {subject} {moves} {place} {time},
        {time} {subject} {verb} {number} {things}, {subject} {moves} with {number} {things}""",
        subject="""my sister, the old farmer, a young teacher, our neighbor, the tall doctor, her brother,
        the quiet child, a stranger, the captain, your friend, the baker, this woman, a tired driver,
        the new student, his grandmother, the mayor, a clever fox, the black cat, the musician, nobody,
        the little boy, their uncle, the nurse, a lazy dog, the painter, every visitor, the judge,
        an engineer, the shepherd, our guest""",
        verb="""found, wanted, sold, washed, carried, painted, lost, bought, dropped, watched, remembered,
        borrowed, counted, mentioned, repaired, brought, chose, noticed, covered, measured, followed, hid""",
        moves="""slept, waited, laughed, sat down, walked, sang, worked late, stood still, arrived, fell over,
        played chess, ran around, shouted, rested, danced, cried""",
        object="""a wooden chair, the broken clock, some fresh bread, an empty bottle, the yellow umbrella,
        a heavy suitcase, the last letter, a bowl of soup, the garden key, an old photograph, a silver ring,
        the winter coat, a strange machine, the kitchen table, a bunch of flowers, the wrong answer,
        a cheap watch, the blue bicycle, an orange balloon, a pair of shoes, the morning paper,
        a cup of coffee, the secret door, a small island, the white horse, an unusual story, a long rope,
        the glass window, a piece of cheese, the village map""",
        place="""in the garden, near the river, behind the church, at the station, under the bridge,
        on the third floor, by the window, in a dark room, outside the town, across the street,
        at the market, on the beach, in the forest, beside the road, at school, on the roof,
        in the hospital, next to the library, between two trees, at the airport, above the shop,
        in front of the museum, along the coast, inside the barn""",
        time="""yesterday, last night, on Monday morning, every summer, two days ago, before breakfast,
        after the storm, at midnight, this afternoon, once a week, in early spring, around noon, last winter,
        during the holidays, on her birthday, a moment later, on Thursday evening, before sunrise""",
        things="""apples, books, letters, chairs, bottles, horses, candles, tickets, stones, oranges, birds,
        coins, pictures, boxes, plates, pencils, blankets, cousins, bags, lamps, mistakes, maps, spoons,
        questions""",
    ),
    "fr-fr": _grammar(
        """{subject} {verb} {object}, {subject} {verb} {object} {place}, {time} {subject} {verb} {object},
        {subject} {verb} {number} {things} {place}, {subject} {moves} {place} {time},
        {time} {subject} {verb} {number} {things}, {subject} {moves} avec {number} {things}""",
        subject="""ma sœur, le vieux fermier, une jeune maîtresse, notre voisin, le grand médecin, son frère,
        l'enfant timide, un inconnu, le capitaine, ton amie, la boulangère, cette femme, un chauffeur fatigué,
        la nouvelle élève, sa grand-mère, le maire, un renard rusé, le chat noir, la musicienne, le facteur,
        le petit garçon, leur oncle, l'infirmière, un chien paresseux, le peintre, chaque visiteur, le juge,
        une ingénieure, le berger, mon cousin""",
        verb="""trouve, cherche, vend, lave, porte, regarde, perd, achète, oublie, montre, dessine, compte,
        répare, apporte, choisit, remarque, couvre, mesure, emprunte, garde, cache, demande""",
        moves="""dort, attend, rit, s'assoit, marche, chante, travaille, arrive, tombe, joue, court, crie,
        se repose, danse, pleure, déjeune""",
        object="""une chaise en bois, la montre cassée, du pain frais, une bouteille vide, le parapluie jaune,
        une lourde valise, la dernière lettre, un bol de soupe, la clé du jardin, une vieille photo,
        une bague en argent, le manteau d'hiver, une machine étrange, la table de la cuisine,
        un bouquet de fleurs, la mauvaise réponse, le vélo bleu, un ballon orange, une paire de chaussures,
        le journal du matin, une tasse de café, la porte secrète, une petite île, le cheval blanc,
        une histoire drôle, une longue corde, la grande fenêtre, un morceau de fromage, le plan du village,
        une boîte de chocolats""",
        place="""dans le jardin, près de la rivière, derrière l'église, à la gare, sous le pont,
        au troisième étage, devant la fenêtre, dans une pièce sombre, hors de la ville, de l'autre côté,
        au marché, sur la plage, dans la forêt, au bord de la route, à l'école, sur le toit, à l'hôpital,
        à côté du musée, entre deux arbres, à l'aéroport, au-dessus du magasin, chez le coiffeur,
        le long de la côte, dans la grange""",
        time="""aujourd'hui, chaque soir, le lundi matin, tous les étés, deux fois par jour,
        avant le déjeuner, après l'orage, à minuit, cet après-midi, une fois par semaine, au printemps,
        vers midi, en hiver, pendant les vacances, le jour de la fête, un peu plus tard, le jeudi soir,
        avant l'aube""",
        things="""pommes, livres, lettres, chaises, bouteilles, chevaux, bougies, billets, pierres, oranges,
        oiseaux, pièces, images, cartons, assiettes, crayons, couvertures, cousins, sacs, lampes, erreurs,
        cartes, cuillères, questions""",
    ),
    "es": _grammar(
        """{subject} {verb} {object}, {subject} {verb} {object} {place}, {time} {subject} {verb} {object},
        {subject} {verb} {number} {things} {place}, {subject} {moves} {place} {time},
        {time} {subject} {verb} {number} {things}, {subject} {moves} con {number} {things}""",
        subject="""mi hermana, el viejo granjero, una joven maestra, nuestro vecino, el médico alto,
        su hermano, la niña callada, un extraño, el capitán, tu amiga, el panadero, esta mujer,
        un conductor cansado, la nueva alumna, su abuela, el alcalde, un zorro astuto, el gato negro,
        la cantante, el cartero, el muchacho, su tío, la enfermera, un perro perezoso, el pintor,
        cada visitante, el juez, una ingeniera, el pastor, mi primo""",
        verb="""encuentra, quiere, vende, lava, lleva, mira, pierde, compra, olvida, enseña, dibuja, cuenta,
        arregla, trae, elige, recuerda, cubre, mide, sigue, guarda, esconde, busca""",
        moves="""duerme, espera, se ríe, se sienta, camina, canta, trabaja, llega, se cae, juega, corre,
        grita, descansa, baila, llora, desayuna""",
        object="""una silla de madera, el reloj roto, un poco de pan, una botella vacía, el paraguas amarillo,
        una maleta pesada, la última carta, un plato de sopa, la llave del jardín, una foto antigua,
        un anillo de plata, el abrigo de invierno, una máquina extraña, la mesa de la cocina,
        un ramo de flores, la respuesta correcta, la bicicleta azul, un globo rojo, un par de zapatos,
        el periódico de hoy, una taza de café, la puerta secreta, una isla pequeña, el caballo blanco,
        una historia rara, una cuerda larga, la ventana grande, un trozo de queso, el mapa del pueblo,
        una caja de galletas""",
        place="""en el jardín, cerca del río, detrás de la iglesia, en la estación, debajo del puente,
        en el tercer piso, junto a la ventana, en un cuarto oscuro, fuera de la ciudad, al otro lado,
        en el mercado, en la playa, en el bosque, al lado del camino, en la escuela, sobre el tejado,
        en el hospital, frente al museo, entre dos árboles, en el aeropuerto, encima de la tienda,
        a lo largo de la costa, dentro del granero, en la biblioteca""",
        time="""hoy, cada noche, el lunes por la mañana, todos los veranos, dos veces al día,
        antes del desayuno, después de la tormenta, a medianoche, esta tarde, una vez por semana,
        en primavera, al mediodía, en invierno, durante las vacaciones, el día de la fiesta, más tarde,
        el jueves por la noche, antes del amanecer""",
        things="""manzanas, libros, cartas, sillas, botellas, caballos, velas, billetes, piedras, naranjas,
        pájaros, monedas, cuadros, cajas, platos, lápices, mantas, primos, bolsas, lámparas, errores, mapas,
        cucharas, preguntas""",
    ),
    "de": _grammar(
        """{subject} {verb} {object}, {subject} {verb} {place} {object}, {time} {verb} {subject} {object},
        {subject} {verb} {place} {number} {things}, {subject} {moves} {time} {place},
        {time} {verb} {subject} {number} {things}, {subject} {moves} heute mit {number} {things}""",
        subject="""meine Schwester, der alte Bauer, eine junge Lehrerin, unser Nachbar, der große Arzt,
        ihr Bruder, das stille Kind, ein Fremder, der Kapitän, deine Freundin, der Bäcker, diese Frau,
        ein müder Fahrer, die neue Schülerin, seine Großmutter, der Bürgermeister, ein schlauer Fuchs,
        die schwarze Katze, die Musikerin, der Briefträger, der kleine Junge, ihr Onkel,
        die Krankenschwester, ein fauler Hund, der Maler, jeder Besucher, die Richterin, ein Ingenieur,
        der Schäfer, mein Vetter""",
        verb="""findet, sucht, verkauft, wäscht, trägt, malt, verliert, kauft, vergisst, zeigt, zeichnet,
        zählt, repariert, bringt, wählt, bemerkt, bedeckt, misst, verfolgt, behält, versteckt, holt""",
        moves="""schläft, wartet, lacht, sitzt, läuft, singt, arbeitet, steht, erscheint, stolpert, spielt,
        rennt, ruft, bleibt, tanzt, weint""",
        object="""einen Stuhl aus Holz, die kaputte Uhr, etwas frisches Brot, eine leere Flasche,
        den gelben Regenschirm, einen schweren Koffer, den letzten Brief, einen Teller Suppe,
        den Schlüssel zum Garten, ein altes Foto, einen silbernen Ring, den warmen Mantel,
        eine seltsame Maschine, den Tisch in der Küche, einen Strauß Blumen, die falsche Antwort,
        das blaue Fahrrad, einen roten Ballon, ein Paar Schuhe, die Zeitung von gestern, eine Tasse Kaffee,
        die geheime Tür, eine kleine Insel, das weiße Pferd, eine lustige Geschichte, ein langes Seil,
        das große Fenster, ein Stück Käse, die Karte des Dorfes, eine Schachtel Kekse""",
        place="""im Garten, am Fluss, hinter der Kirche, am Bahnhof, unter der Brücke, im dritten Stock,
        neben dem Fenster, in einem dunklen Zimmer, vor der Stadt, auf der anderen Seite, auf dem Markt,
        am Strand, im Wald, neben der Straße, in der Schule, auf dem Dach, im Krankenhaus,
        gegenüber vom Museum, zwischen zwei Bäumen, am Flughafen, über dem Laden, an der Küste,
        in der Scheune, in der Bücherei""",
        time="""heute, jeden Abend, am Montagmorgen, jeden Sommer, zweimal am Tag, vor dem Frühstück,
        nach dem Sturm, um Mitternacht, am Nachmittag, einmal in der Woche, im Frühling, gegen Mittag,
        im Winter, während der Ferien, an ihrem Geburtstag, etwas später, am Donnerstagabend,
        vor Sonnenaufgang""",
        things="""Äpfel, Bücher, Briefe, Stühle, Flaschen, Pferde, Kerzen, Karten, Steine, Orangen, Vögel,
        Münzen, Bilder, Kisten, Teller, Stifte, Decken, Vettern, Taschen, Lampen, Fehler, Knöpfe, Löffel,
        Fragen""",
    ),
    "it": _grammar(
        """{subject} {verb} {object}, {subject} {verb} {object} {place}, {time} {subject} {verb} {object},
        {subject} {verb} {number} {things} {place}, {subject} {moves} {place} {time},
        {time} {subject} {verb} {number} {things}, {subject} {moves} con {number} {things}""",
        subject="""mia sorella, il vecchio contadino, una giovane maestra, il nostro vicino, il medico alto,
        suo fratello, la bambina timida, uno sconosciuto, il capitano, la tua amica, il fornaio, questa donna,
        un autista stanco, la nuova allieva, sua nonna, il sindaco, una volpe astuta, il gatto nero,
        la cantante, il postino, il ragazzo, lo zio, l'infermiera, un cane pigro, il pittore,
        ogni visitatore, il giudice, una scienziata, il pastore, mio cugino""",
        verb="""trova, vuole, vende, lava, porta, guarda, perde, compra, dimentica, mostra, disegna, conta,
        ripara, prende, sceglie, ricorda, copre, misura, segue, conserva, nasconde, cerca""",
        moves="""dorme, aspetta, ride, si siede, cammina, canta, lavora, arriva, cade, gioca, corre, grida,
        riposa, balla, piange, mangia""",
        object="""una sedia di legno, l'orologio rotto, un po' di pane, una bottiglia vuota,
        l'ombrello giallo, una valigia pesante, l'ultima lettera, un piatto di zuppa,
        la chiave del giardino, una vecchia foto, un anello d'argento, il cappotto pesante,
        una macchina strana, il tavolo della cucina, un mazzo di fiori, la risposta sbagliata,
        la bicicletta blu, un palloncino rosso, un paio di scarpe, il giornale di oggi, una tazza di caffè,
        la porta segreta, una piccola isola, il cavallo bianco, una storia buffa, una lunga corda,
        la grande finestra, un pezzo di formaggio, la mappa del paese, una scatola di biscotti""",
        place="""in giardino, vicino al fiume, dietro la chiesa, alla stazione, sotto il ponte,
        al terzo piano, davanti alla finestra, in una stanza buia, fuori città, dall'altra parte,
        al mercato, sulla spiaggia, nel bosco, accanto alla strada, a scuola, sul tetto, in ospedale,
        di fronte al museo, tra due alberi, all'aeroporto, sopra il negozio, lungo la costa, nel fienile,
        in biblioteca""",
        time="""oggi, ogni sera, lunedì mattina, tutte le estati, due volte al giorno, prima di colazione,
        dopo il temporale, a mezzanotte, questo pomeriggio, una volta alla settimana, in primavera,
        verso mezzogiorno, d'inverno, durante le vacanze, il giorno della festa, un po' più tardi,
        giovedì sera, prima dell'alba""",
        things="""mele, libri, lettere, sedie, bottiglie, cavalli, candele, biglietti, pietre, arance,
        uccelli, monete, quadri, scatole, piatti, matite, coperte, cugini, borse, lampade, errori, mappe,
        cucchiai, domande""",
    ),
}

LANGUAGES = tuple(_GRAMMARS)
"""The languages that have a grammar, by eSpeak NG's language tags."""


def sentence(language: str, rng: random.Random) -> str:
    """Draw one sentence.

    Args:
        language: One of ``LANGUAGES``.
        rng: Source of the choices; the same state gives the same sentence.

    Raises:
        ValueError: There is no grammar for ``language``.
    """
    if language not in _GRAMMARS:
        raise ValueError(f"language={language!r}: there are sentences for {', '.join(LANGUAGES)}")
    return _GRAMMARS[language].sentence(rng)
