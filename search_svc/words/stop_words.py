"""Words that say little, by language, without accents. No word is left out of what is stored.

Languages that are not here have none. A word is here if it can stand in nearly every sentence: articles, pronouns,
the commonest prepositions, conjunctions and forms of to be and to have.
"""

# ruff: noqa: RUF001 - Russian letters are meant where they look like Latin ones.
_LISTS = {
    "en": """a about an and are as at be been but by can do does for from had has have he her here him his how i if in
        into is isnt it its me my no not of off on or our out over she so some than that the their them then there these
        they this those to too up us was we were what when where which who whom why will with would you your""",
    "de": """aber als also am an auch auf aus bei bin bis bist da damit das dass dein dem den der des die dies diese
        dieser dir du durch ein eine einem einen einer eines er es euch fur hat hatte ich ihr ihre im in ist ja kein
        keine man mein mich mir mit nach nicht noch nur oder ohne sehr sein seine sich sie sind so uber um und uns unter
        vom von vor war waren was wenn wer wie wir wird wo zu zum zur""",
    "fr": """a au aux avec c ce ces cet cette d dans de des du elle elles en est et eux il ils j je l la le les leur
        leurs lui m ma mais me mes moi mon n ne nos notre nous on ont ou par pas pour qu que qui s sa se ses son sont
        sur t ta te tes toi ton tu un une vos votre vous y""",
    "es": """a al como con de del el ella ellas ellos en entre era es esa ese eso esta este esto ha han hay la las le
        les lo los mas me mi mis muy no nos o para pero por que se ser si sin sobre son su sus te tu un una uno unos
        unas y ya yo""",
    "it": """a ad ai al alla alle anche c che chi ci come con d da dal dalla dei del della delle dello di e ed era gli
        ha hanno i il in io l la le lei li lo loro lui ma mi ne nei nel nella noi non o per piu quella quello questa
        questo se si sono su sua sue sul sulla suo suoi ti tra tu un una uno voi""",
    "pt": """a ao aos as com como da das de do dos e ela elas ele eles em entre era essa esse esta este eu foi ha isso
        isto ja lhe mais mas me meu minha na nas nao no nos o os ou para pela pelo por que se sem ser seu seus so sua
        suas sao tem um uma voce""",
    "nl": """aan al als bij dan dat de der deze die dit doch door dus een en er ge had hebben heb heeft het hem hij hoe
        hun ik in is ja je kan maar me met mij mijn naar niet nog nu of om omdat ons ook op over te tegen tot u uit van
        veel voor was wat we wel werd wie wij zal ze zich zij zijn zo""",
    "sv": """alla att av blev da de dem den denna deras dess det detta dig din dom du efter eller en ett fran for ha
        hade han hans har henne hennes hon honom hur har i icke inte ja jag kan man med men mig min mot nar ni nu och
        om oss pa sig sin sina som till under upp ut var vi vid vilken""",
    "da": """af alle at blev da de dem den denne der deres det dig din disse dog du efter eller en end er et for fra ham
        han har havde hende her hos hun hvad hvis i ikke ind jeg jer kan man med men mig min mod nar ned noget nu og om
        op os over pa sig sin skal som til ud under var vi vil""",
    "no": """alle at av bare ble da de deg dem den denne der deres det dette din du eller en er et etter for fra ham
        han har hadde henne her hun hva i ikke inn jeg kan man med meg men min mot na nar noe og om opp oss over pa seg
        sin skal som til ut var ved vi vil""",
    "fi": """ei en et eivat ehka etta han hanen he hyvin ja jo jos joka kanssa kuin kun me mika mina minun mutta myos
        ne niin nyt olen olet oli on ovat se sen sina siina sitten tai tama te tuo vain vaan""",
    "ru": """а бы был была были было в вам вас весь во вот все вы да для до его ее если же за и из или им их к как ко
        кто ли мне мы на над не него нее нет ни них но о об он она они оно от по под при с со так там то только тот ты у
        уже что эта эти это я""",
    "tr": """ama bir bu cok da de daha en gibi hem her icin ile ise ki kim mi ne o sen siz su ve veya ya""",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _LISTS.items()}
