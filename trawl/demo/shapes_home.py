"""Drawings of food, of things in a house, of clothes and of instruments."""

HOME: dict[str, str] = {
    "apple": """
        blob main 50,27 66,20 84,28 91,50 80,80 62,94 50,90 38,94 20,80 9,50 16,28 34,20
        bend wood/6 50,31 51,16 57,5
        blob leaf 54,17 68,4 88,5 76,18
    """,
    "banana": """
        blob main 12,18 16,48 34,74 62,88 92,80 96,70 68,64 46,48 32,30 25,13
        bend deep/4 20,22 28,48 50,70 90,76
        poly dark 12,20 26,15 21,3 13,5
        oval dark 93,75 5,5
    """,
    "carrot": """
        both bend leaf/7 50,34 44,18 30,8
        bend leaf/8 50,34 50,2
        blob main 32,32 50,28 68,32 70,42 60,74 50,99 40,74 30,42
        line deep/3 36,46 50,47
        line deep/3 64,58 50,60
        line deep/3 43,72 52,73
    """,
    "mushroom": """
        slab light 37,46 63,95 10,0
        blob main 4,54 8,30 28,10 50,5 72,10 92,30 96,54 72,60 28,60
        oval light 30,32 9,8
        oval light 58,20 9,7
        oval light 76,42 8,7
        oval light 50,46 6,5
    """,
    "lollipop": """
        line light/7 50,50 50,99
        oval main 50,34 33,33
        bend light/5 50,34 58,28 62,40 46,48 34,34 46,16 70,20 76,42 60,60
    """,
    "cake": """
        slab metal 0,90 100,97 3,0
        slab main 8,44 92,91 4,0
        slab light 6,36 94,52 8,0
        oval light 20,52 6,10
        oval light 43,52 6,13
        oval light 64,52 6,9
        oval light 83,52 5,12
        line deep/6 28,37 28,18
        line deep/6 50,37 50,16
        line deep/6 72,37 72,18
        oval gold 28,11 4,7
        oval gold 50,9 4,7
        oval gold 72,11 4,7
    """,
    "pizza": """
        poly main 7,16 93,16 50,99
        blob wood 3,16 10,5 30,2 50,0 70,2 90,5 97,16 90,22 50,19 10,22
        oval light 34,36 9,9
        oval deep 64,38 9,9
        oval light 52,62 8,8
        oval deep 47,80 5,5
        oval leaf 49,42 4,4
    """,
    "grapes": """
        bend wood/6 50,30 50,14 44,4
        blob leaf 52,18 62,2 88,6 78,24 62,26
        oval main 22,34 13,13
        oval deep 42,34 13,13
        oval main 62,34 13,13
        oval deep 80,36 12,12
        oval deep 30,52 13,13
        oval main 50,52 13,13
        oval main 70,52 13,13
        oval main 40,70 13,13
        oval deep 60,70 13,13
        oval main 50,87 12,12
        oval pale 18,29 4,4
        oval pale 58,29 4,4
        oval pale 46,47 4,4
        oval pale 66,47 4,4
        oval pale 36,65 4,4
    """,
    "pineapple": """
        both poly leaf 50,44 38,40 12,14 40,26
        both poly leaf 50,44 40,36 26,0 50,22
        poly leaf 42,42 50,-6 58,42
        oval main 50,67 28,33
        line deep/3 26,58 62,96
        line deep/3 34,44 74,86
        line deep/3 74,58 38,96
        line deep/3 66,44 26,86
    """,
    "cup": """
        ring main/9 78,52 16,18
        poly main 10,20 78,20 72,92 62,96 26,96 16,92
        oval deep 44,20 34,8
        oval dark 44,21 28,5
    """,
    "teapot": """
        ring main/7 14,56 14,18
        blob main 72,66 86,44 96,30 104,32 94,52 84,78 70,82
        oval main 48,62 34,30
        oval deep 48,35 19,6
        oval dark 48,26 5,6
        slab deep 32,86 64,93 3,0
    """,
    "bottle": """
        slab main 41,8 59,50 3,0
        blob main 40,34 60,34 70,48 72,60 28,60 30,48
        slab main 28,50 72,99 6,0
        slab dark 39,0 61,12 2,0
        slab light 28,62 72,84
        line deep/4 36,73 64,73
    """,
    "fork": """
        slab main 43,44 57,100 6,0
        blob main 24,30 76,30 74,44 60,56 40,56 26,44
        slab main 24,0 35,38 3,0
        slab main 44,0 55,38 3,0
        slab main 65,0 76,38 3,0
    """,
    "pan": """
        slab dark 66,44 112,58 6,0
        oval main 36,50 36,36
        oval deep 36,50 28,28
        ring pale/3 36,50 24,24
    """,
    "chair": """
        slab deep 70,56 80,99
        slab main 18,0 31,99 3,0
        slab main 18,46 82,60 3,0
        line deep/6 28,80 74,80
        slab pale 22,6 27,42 2,0
    """,
    "lamp": """
        line metal/7 50,46 50,92
        slab metal 26,88 74,98 4,0
        oval gold 50,50 15,8
        poly main 30,3 70,3 94,50 6,50
        line deep/3 7,48 93,48
        line deep/3 30,5 70,5
    """,
    "bed": """
        slab wood 0,16 9,92 3,0
        slab wood 91,44 100,92 3,0
        slab wood 4,74 96,84
        slab light 8,52 92,74 3,0
        slab light 10,40 34,60 8,0
        slab main 30,46 92,78 7,0
        slab deep 30,46 40,78 4,0
    """,
    "clock": """
        both oval main 20,16 17,15
        both line dark/7 26,88 18,99
        oval main 50,52 44,44
        oval light 50,52 31,31
        line dark/6 50,54 50,32
        line dark/6 50,54 64,62
        oval dark 50,53 4,4
        oval dark 50,26 2,2
        both oval dark 25,52 2,2
        oval dark 50,78 2,2
    """,
    "candle": """
        oval metal 50,92 40,8
        ring metal/6 86,84 11,10
        slab main 34,34 66,93 3,0
        oval pale 50,35 16,4
        oval deep 42,46 4,10
        line dark/3 50,36 50,28
        blob gold 50,0 60,17 56,29 50,32 44,29 40,17
    """,
    "book": """
        poly deep 0,28 30,62 30,84 0,48
        poly light 30,64 98,38 98,58 30,82
        poly main 0,28 66,6 100,36 30,62
        poly main 30,80 100,55 100,61 30,88
        poly pale 26,28 56,18 66,27 36,38
        line metal/2 34,71 96,48
    """,
    "television": """
        line metal/4 50,24 26,0
        line metal/4 50,24 74,0
        both line dark/6 24,86 16,99
        slab main 2,20 98,88 8,0
        slab dark 12,30 72,78 9,0
        poly glass 20,38 38,38 28,64 20,68
        oval metal 85,40 6,6
        oval metal 85,58 6,6
        line dark/3 80,74 91,74
    """,
    "camera": """
        slab main 30,12 66,34 4,0
        slab main 0,24 100,90 9,0
        slab deep 0,42 100,72
        oval metal 50,57 28,28
        oval dark 50,57 23,23
        oval glass 50,57 14,14
        oval light 43,50 5,5
        slab light 76,29 92,38 2,0
        slab metal 8,17 22,25 2,0
    """,
    "umbrella": """
        bend wood/5 50,44 50,88 44,98 34,96 33,86
        line dark/5 50,10 50,0
        blob main 2,52 10,28 30,10 50,5 70,10 90,28 98,52 82,46 66,52 50,46 34,52 18,46
        both bend deep/3 50,5 36,22 34,50
    """,
    "broom": """
        line wood/7 50,0 50,62
        poly main 34,58 66,58 84,99 16,99
        slab deep 33,54 67,65 2,0
        line deep/3 44,66 36,98
        line deep/3 56,66 64,98
        line deep/3 50,66 50,98
    """,
    "ladder": """
        line main/7 30,15 70,15
        line main/7 29,33 71,33
        line main/7 27,51 73,51
        line main/7 26,69 74,69
        line main/7 25,87 75,87
        both line main/9 31,0 23,100
    """,
    "key": """
        ring main/12 22,50 20,20
        slab main 40,44 108,56
        slab main 80,50 88,76
        slab main 96,50 106,70
        ring deep/3 22,50 26,26
    """,
    "scissors": """
        both line metal/9 46,46 68,2
        both line main/10 30,66 52,38
        both ring main/9 27,80 15,16
        oval dark 50,41 4,4
    """,
    "hammer": """
        slab main 44,26 57,100 4,0
        poly metal 20,6 66,6 66,34 20,34
        blob metal 64,6 84,8 100,30 86,26 64,32
        slab dark 10,3 24,37 3,0
        line deep/3 45,88 56,88
    """,
    "envelope": """
        slab main 0,20 100,84 3,0
        line deep/3 2,82 42,48
        line deep/3 98,82 58,48
        poly pale 2,21 98,21 50,60
        line deep/3 2,22 50,60 98,22
        oval wood 50,56 8,8
    """,
    "bell": """
        ring metal/6 50,8 8,8
        oval dark 50,90 11,10
        blob main 50,12 66,18 74,40 80,66 98,86 50,90 2,86 20,66 26,40 34,18
        bend deep/5 18,70 50,74 82,70
        bend pale/5 38,26 34,44 32,60
    """,
    "hat": """
        oval main 50,78 50,17
        oval deep 50,74 32,9
        blob main 19,76 21,36 32,18 46,24 54,24 68,18 79,36 81,76 50,82
        poly dark 19,58 50,64 81,58 81,74 50,80 19,74
    """,
    "boot": """
        blob main 26,4 64,4 64,30 62,54 76,64 96,76 98,92 24,92 26,60 30,34
        slab dark 22,88 100,99 3,0
        slab dark 22,90 44,106 2,0
        slab pale 24,1 66,15 3,0
        line light/3 52,44 66,40
        line light/3 52,54 68,50
    """,
    "shirt": """
        poly main 32,6 42,12 58,12 68,6 100,32 86,54 74,44 74,96 26,96 26,44 14,54 0,32
        both poly pale 32,5 50,20 42,28 27,12
        line deep/2 50,20 50,94
        oval dark 50,38 3,3
        oval dark 50,56 3,3
        oval dark 50,74 3,3
    """,
    "trousers": """
        poly main 24,2 76,2 86,99 58,99 50,40 42,99 14,99
        slab dark 23,2 77,11 2,0
        line deep/3 50,11 50,42
        both bend deep/3 26,26 34,24 38,12
        both line pale/5 17,95 42,95
    """,
    "glasses": """
        both line main/6 4,40 0,30
        bend main/8 42,48 50,43 58,48
        both oval glass 23,56 21,20
        both ring main/9 23,56 22,21
        both line light/4 14,56 22,46
    """,
    "crown": """
        both oval pale 4,26 6,6
        oval pale 50,8 7,7
        poly main 8,92 2,30 28,58 50,12 72,58 98,30 92,92
        slab deep 8,82 92,96 3,0
        both oval light 26,72 5,6
        oval light 50,68 6,8
    """,
    "drum": """
        line wood/5 40,36 92,2
        line wood/5 62,34 104,16
        oval main 50,84 44,14
        poly main 6,38 94,38 94,84 6,84
        bend light/3 7,46 18,90 34,52 50,96 66,52 82,90 93,46
        oval metal 50,38 45,15
        oval light 50,37 40,12
    """,
    "guitar": """
        slab wood 45,8 55,60
        slab dark 42,-4 58,13 3,0
        oval main 50,80 29,21
        oval main 50,55 21,17
        slab main 32,54 68,78 6,0
        slab wood 46,40 54,54
        oval dark 50,62 9,9
        slab dark 38,82 62,87
        line light/2 50,0 50,84
    """,
    "trumpet": """
        slab dark -2,36 7,50 2,0
        ring main/7 42,58 22,16
        line main/8 4,43 76,43
        blob main 66,39 84,34 102,16 104,44 102,70 84,53 66,47
        slab metal 30,22 37,48 2,0
        slab metal 41,22 48,48 2,0
        slab metal 52,22 59,48 2,0
        oval deep 101,43 5,26
    """,
}
