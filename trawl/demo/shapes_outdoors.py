"""Drawings of vehicles, animals, plants, buildings and other things out of doors."""

OUTDOORS: dict[str, str] = {
    "car": """
        blob main 2,68 4,54 24,49 38,28 68,28 84,48 98,56 99,72 92,80 6,80
        poly glass 30,50 41,34 52,34 52,50
        poly glass 57,50 57,34 67,34 78,50
        oval dark 25,79 13,13
        oval dark 77,79 13,13
        oval metal 25,79 6,6
        oval metal 77,79 6,6
        oval gold 95,61 3,4
        line deep/2 55,52 55,76
    """,
    "bus": """
        slab main 0,16 100,80 7,0
        slab glass 6,25 22,46 2,0
        slab glass 26,25 42,46 2,0
        slab glass 46,25 62,46 2,0
        slab glass 82,25 97,48 2,0
        slab dark 66,25 78,76 2,0
        slab light 2,54 64,61
        oval dark 22,81 11,11
        oval dark 78,81 11,11
        oval metal 22,81 5,5
        oval metal 78,81 5,5
    """,
    "bicycle": """
        both ring dark/5 20,66 19,19
        line main/7 20,66 38,36 68,36 48,66 20,66
        line main/7 38,36 48,66
        line main/7 80,66 65,26
        line dark/6 56,22 65,25 76,20
        line dark/8 28,28 46,28
        line main/6 38,36 36,30
        oval metal 48,66 6,6
    """,
    "boat": """
        line wood/5 46,2 46,74
        poly main 50,4 94,64 50,64
        poly pale 42,14 42,64 10,64
        poly deep 0,70 100,70 84,96 18,96
        line wood/4 3,72 97,72
    """,
    "airplane": """
        both poly main 54,30 102,62 102,72 54,58
        both poly deep 54,78 76,92 76,100 52,93
        both slab dark 72,46 79,62 3,0
        blob main 50,0 58,14 59,60 55,98 50,102 45,98 41,60 42,14
        both poly glass 50,8 55,14 50,17
        both oval dark 55,30 1,2
    """,
    "rocket": """
        blob gold 38,76 50,108 62,76
        both poly deep 34,50 10,82 12,98 40,78
        blob main 50,-4 64,18 70,48 66,80 34,80 30,48 36,18
        poly deep 50,-4 60,11 40,11
        oval metal 50,36 12,12
        oval glass 50,36 8,8
        slab deep 46,60 54,94 3,0
    """,
    "train": """
        slab dark 14,4 34,14 2,0
        slab dark 18,10 30,36
        oval main 46,32 8,10
        slab main 6,32 66,68 9,0
        slab main 58,10 98,70
        slab deep 55,6 102,15 2,0
        slab glass 68,22 90,44 2,0
        slab dark 2,66 100,76
        poly metal 4,74 -8,94 14,94
        oval dark 26,82 12,12
        oval dark 50,82 12,12
        oval dark 80,79 16,16
        oval metal 26,82 5,5
        oval metal 50,82 5,5
        oval metal 80,79 7,7
        oval gold 6,44 4,5
    """,
    "balloon": """
        both line dark/2 40,70 43,88
        blob main 50,0 80,10 92,36 78,60 60,76 40,76 22,60 8,36 20,10
        both blob deep 50,0 60,10 66,36 62,60 54,76 50,76 56,56 58,36 55,14
        both blob deep 30,4 16,20 12,36 26,60 38,72 26,54 20,36 24,18
        slab wood 40,86 60,102 3,0
    """,
    "helicopter": """
        line dark/5 0,18 82,18
        line dark/5 41,18 41,36
        poly main 54,42 100,38 100,46 60,62
        line dark/5 98,26 100,60
        oval main 40,56 32,24
        blob glass 10,56 20,40 38,37 38,58
        line dark/4 26,76 24,90
        line dark/4 54,76 56,90
        line dark/5 10,91 70,91
        slab deep 48,44 60,64 3,0
    """,
    "tree": """
        slab wood 43,84 57,104
        poly deep 50,40 94,90 6,90
        poly main 50,22 86,66 14,66
        poly deep 50,24 66,44 34,44
        poly main 50,-4 78,42 22,42
        both poly pale 30,62 36,56 38,64
        poly pale 44,34 50,24 52,36
    """,
    "flower": """
        bend leaf/6 50,40 53,76 50,100
        blob leaf 52,86 62,70 82,66 72,82
        blob leaf 51,92 38,76 20,74 30,88
        oval main 50,13 13,14
        oval main 68,25 13,13
        oval main 67,45 13,13
        oval main 50,54 13,13
        oval main 33,45 13,13
        oval main 32,25 13,13
        oval gold 50,34 12,12
        oval wood 50,34 6,6
    """,
    "cactus": """
        bend main/15 44,64 20,60 17,34
        bend main/15 56,52 80,50 84,22
        slab main 36,2 64,90 14,0
        line deep/3 45,8 45,84
        line deep/3 55,8 55,84
        slab wood 26,76 74,84 2,0
        poly wood 30,80 70,80 64,102 36,102
    """,
    "fish": """
        poly deep 40,30 58,8 68,36
        poly deep 46,72 58,88 62,66
        poly deep 74,50 104,22 96,50 104,78
        blob main 0,52 18,32 44,24 66,34 84,50 66,66 44,76 18,70
        oval light 18,45 7,7
        oval dark 17,45 4,4
        bend deep/4 32,34 38,50 32,66
        bend deep/3 48,40 54,50 48,60
        bend deep/3 60,42 65,50 60,58
    """,
    "duck": """
        poly gold 14,22 -8,30 -6,35 14,36
        blob main 12,32 42,32 50,56 42,70 16,66
        blob main 10,60 30,58 54,54 78,56 104,38 96,72 70,90 34,90 16,80
        oval main 26,26 18,17
        oval light 20,22 5,5
        oval dark 19,22 3,3
        blob deep 44,66 70,60 88,64 68,80 50,78
    """,
    "cat": """
        bend main/9 70,92 96,86 94,62 84,50
        blob main 30,42 54,42 72,66 78,98 22,98 26,68
        poly main 20,28 18,-2 40,14
        poly main 46,14 68,-2 66,28
        poly pale 24,18 22,6 33,12
        poly pale 62,18 64,6 53,12
        oval main 43,28 25,20
        oval gold 33,25 5,5
        oval gold 53,25 5,5
        oval dark 33,25 2,4
        oval dark 53,25 2,4
        poly dark 40,33 46,33 43,37
        line light/2 46,36 74,32
        line light/2 46,38 74,42
        line light/2 40,36 12,32
        line light/2 40,38 12,42
        line deep/4 44,98 44,72
        line deep/4 56,98 56,74
    """,
    "snail": """
        line light/4 12,46 4,26
        line light/4 18,46 24,26
        oval dark 4,25 4,4
        oval dark 24,25 4,4
        blob light 2,54 14,42 26,48 30,74 60,82 104,90 100,96 12,96 4,84
        oval main 60,50 33,34
        bend deep/6 60,52 67,46 70,56 58,64 48,52 58,36 76,38 84,54 74,72
    """,
    "turtle": """
        poly leaf 14,62 -6,76 16,74
        slab leaf 16,58 34,88 5,0
        slab leaf 64,58 82,88 5,0
        line leaf/11 78,68 96,54
        oval leaf 100,48 11,10
        oval dark 103,45 3,3
        slab leaf 10,62 90,74 5,0
        blob main 8,68 16,38 38,20 62,20 84,38 92,68 50,72
        bend deep/3 12,56 34,52 66,52 88,56
        line deep/3 34,52 40,22
        line deep/3 66,52 60,22
        line deep/3 50,52 50,70
    """,
    "butterfly": """
        both bend dark/3 50,26 42,12 34,4
        both blob main 50,40 40,16 16,4 -2,14 2,38 20,52 46,54
        both blob deep 48,52 24,52 10,66 16,90 32,96 46,76
        both oval light 18,24 8,8
        both oval light 26,72 6,6
        oval dark 50,52 5,32
    """,
    "giraffe": """
        line main/8 28,62 24,100
        line deep/8 38,62 38,100
        line deep/8 54,62 56,100
        line main/8 63,62 65,100
        oval main 46,60 25,14
        poly main 52,62 70,58 78,14 66,12
        blob main 64,10 76,5 98,16 98,24 80,24 66,22
        line dark/3 70,8 68,-4
        line dark/3 75,7 76,-4
        oval dark 80,12 2,2
        line dark/3 22,56 14,78
        oval deep 38,56 6,4
        oval deep 52,66 6,4
        oval deep 62,52 5,5
        oval deep 67,36 4,5
        oval deep 72,24 3,3
    """,
    "elephant": """
        line deep/4 94,42 102,66
        slab deep 46,60 60,92 3,0
        slab deep 80,58 92,92 3,0
        slab main 34,60 49,98 3,0
        slab main 68,58 83,98 3,0
        oval main 62,46 36,30
        bend main/14 14,44 4,66 6,86 14,94
        oval main 24,38 22,23
        bend light/5 18,58 14,68 4,72
        blob deep 26,24 44,16 54,32 48,58 34,64 28,48
        oval dark 14,34 3,3
    """,
    "octopus": """
        bend deep/10 42,56 28,78 30,98
        bend deep/10 58,56 72,78 70,98
        both bend main/11 32,52 10,66 -2,88
        both bend main/11 38,56 20,76 12,98
        both bend main/10 47,58 44,80 44,100
        blob main 50,0 76,12 82,38 70,60 30,60 18,38 24,12
        both oval light 38,36 8,9
        both oval dark 39,38 4,5
        bend dark/3 42,52 50,55 58,52
    """,
    "whale": """
        bend glass/5 30,34 31,16 20,8
        bend glass/5 30,34 31,16 44,8
        blob main 78,66 86,48 80,26 94,36 106,24 104,46 94,66 84,78
        blob main 0,60 8,40 30,32 56,36 76,56 88,60 84,74 58,88 26,88 6,78
        blob light 4,74 30,76 58,80 44,88 26,88 8,80
        oval dark 18,58 3,4
        blob deep 38,72 54,74 58,94 46,88
    """,
    "house": """
        slab wood 68,8 80,36
        slab main 12,44 88,98
        poly dark 0,50 50,2 100,50
        line wood/4 0,50 100,50
        slab wood 42,64 58,98
        slab glass 20,58 35,74
        slab glass 65,58 80,74
        line light/2 27,58 27,74
        line light/2 72,58 72,74
        oval glass 50,34 7,7
    """,
    "castle": """
        slab main 22,46 78,98
        slab main 22,40 32,48
        slab main 38,40 46,48
        slab main 54,40 62,48
        slab main 68,40 78,48
        both slab main 2,28 26,98
        both poly deep -2,30 14,-2 30,30
        both slab dark 11,42 17,56 3,0
        slab dark 40,66 60,98 10,0
        both line dark/2 14,0 14,-10
    """,
    "tent": """
        line wood/4 44,6 54,18
        line wood/4 56,6 46,18
        poly main 50,12 104,92 -4,92
        poly deep 50,12 104,92 72,92
        poly dark 50,34 64,92 36,92
        poly pale 50,34 36,92 22,92
    """,
    "windmill": """
        poly main 37,44 63,44 74,102 26,102
        oval deep 50,44 14,11
        slab dark 44,82 56,102 4,0
        oval glass 50,64 4,5
        line light/11 50,42 92,14
        line light/11 50,42 8,70
        line light/11 50,42 78,84
        line light/11 50,42 22,0
        oval dark 50,42 5,5
    """,
    "kite": """
        bend dark/3 50,74 58,84 44,94 54,106
        poly main 50,0 82,34 50,76 18,34
        poly deep 50,0 82,34 50,34
        poly deep 50,76 18,34 50,34
        both poly main 52,84 62,78 62,92
        both poly main 48,96 38,90 38,104
    """,
    "anchor": """
        ring main/7 50,10 10,10
        line main/10 50,20 50,94
        line main/9 26,32 74,32
        bend main/10 8,64 18,84 50,95 82,84 92,64
        both poly main -4,74 6,50 24,68
    """,
    "flag": """
        line metal/6 8,2 8,104
        oval gold 8,0 5,5
        blob main 10,6 34,2 56,12 78,10 100,2 98,32 100,58 78,64 56,64 34,54 10,58 11,30
        oval light 54,36 13,13
    """,
    "robot": """
        line metal/4 50,6 50,-6
        oval gold 50,-8 5,5
        both line metal/10 26,44 4,54 2,72
        both slab metal 30,76 46,104 3,0
        slab main 28,2 72,32 6,0
        slab main 22,36 78,80 5,0
        both oval gold 40,16 6,6
        both oval dark 40,16 3,3
        line dark/3 38,26 62,26
        slab dark 34,46 66,66 3,0
        oval gold 42,56 4,4
        oval light 58,56 4,4
    """,
}
