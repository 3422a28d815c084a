using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>Values as clients send them, and as they should not: texts, ids, cursors, JSON.</summary>
internal static class FuzzValues
{
    /// <summary>A session and a user that nobody else names: whatever is sent, they stay as they are.</summary>
    public const string Canary = "canary";

    private static readonly string LongText = new('x', 70_000);

    /// <summary>Texts that have broken something somewhere. Some are no Unicode, and none of them is the canary.</summary>
    public static readonly Gen<string> Nasty = Gen.Frequency(
        (6, Gen.OneOf(
            "", " ", ".", "..", "/", "\\", "%", "%s%n", "*", "?", "'", "' OR '1'='1", "\"; DROP TABLE sessions; --", "${jndi:ldap://x}",
            "{{7*7}}", "<script>alert(1)</script>",
            "stats", "STATS", "cleanup", "null", "undefined", "true", "NaN", "-1", "0", "../../etc/passwd", "a/b", "a%2Fb", "a b", "a+b",
            "a&b=c", "a#b", "a;b", "a\tb", "a\r\nX-Injected: 1",
            "\0", "a\0b", "\u001b[31m", "\u0085", "\u2028", "\u202Eabc", "\uFEFF", "\uFFFD", "\uFFFF", "\uD800", "\uDFFF", "a\uD83Db", "é",
            "e\u0301", "ß", "İ", "𝕏", "👩‍👩‍👧‍👦", "ﷺ", "CANARY", "Canary", "canary ", "canary\0", "ｃanary", "can*", "canar?", "%63anarz")),
        (2, Gen.String[0, 40]),
        (1, Gen.String[Gen.Char['!', '~'], 1, 300]),
        (1, Gen.OneOf(new string('a', 128), new string('a', 129), new string('u', 256), new string('é', 256), new string('u', 257),
            new string('n', 5000))));

    /// <summary>Ids of sessions: a few that are met again and again, so that there is something to meet.</summary>
    public static readonly Gen<string> SessionIds = Gen.Frequency((20, Gen.Int[0, 15].Select(i => $"s{i}")),
        (2, Gen.Guid.Select(id => id.ToString())), (4, Nasty));

    /// <summary>Users.</summary>
    public static readonly Gen<string> UserIds = Gen.Frequency((20, Gen.Int[0, 5].Select(i => $"user {i}/é")), (4, Nasty));

    /// <summary>Cursors: like ours, forged and cut.</summary>
    public static readonly Gen<string> Cursors = Gen.Select(Gen.OneOf(Gen.Long, Gen.Int[0, 100].Select(i => (long)i),
        Gen.OneOf(0, -1, long.MaxValue, long.MinValue, 1767225600000000)), SessionIds, Gen.Int[0, 40],
        (position, id, cut) =>
        {
            var cursor = Base64Url.EncodeToString(Encoding.UTF8.GetBytes($"{position}:{(cut % 3 == 0 ? "" : id)}"));
            return cut < 20 ? cursor : cursor[..Math.Max(0, cursor.Length - cut + 20)];
        });

    /// <summary>Numbers, as text.</summary>
    public static readonly Gen<string> Numbers = Gen.Frequency(
        (5, Gen.Int[1, 100].Select(i => i.ToString(CultureInfo.InvariantCulture))),
        (2, Gen.OneOf("0", "-0", "-1", "101", "2147483647", "2147483648", "9223372036854775808", "1e2", "1E400", "0x10", "1_0", "1.5", "+5",
            " 5", "05", "NaN", "Infinity", "٣", "", new string('9', 400))),
        (1, Gen.Long.Select(i => i.ToString(CultureInfo.InvariantCulture))));

    /// <summary>Times.</summary>
    public static readonly Gen<string> Times = Gen.OneOf(
        Gen.OneOf("2026-01-01T00:00:00Z", "2026-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-14:00",
            "0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", "now", "1767225600", "T", "api", "fork"),
        Gen.DateTimeOffset.Select(time => time.ToString("o", CultureInfo.InvariantCulture)));

    private static readonly Gen<string> Leaf = Gen.Frequency(
        (4, Nasty.Select(Text)),
        (3, Gen.OneOf("null", "true", "false", "0", "1", "-1", "1.5", "-0", "1e308", "1e999", "-1e-999", "9223372036854775808",
            "123456789012345678901234567890", "[]", "{}", "\"\"")),
        (1, Gen.OneOf("\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\u0000\"", "\"\\x\"", "\"\t\"", "01", ".5", "NaN", "'a'", "undefined",
            "/**/1", "\"a", "{", "[1,]", "{\"a\":1,\"a\":2}", "{\"\\ud800\":1}", "{\"a\":{\"a\":{\"a\":null}}}")),
        (1, Gen.Double.Select(d => JsonSerializer.Serialize(double.IsFinite(d) ? d : 0))),
        (1, Gen.Int[50, 70].Select(Deep)),
        (1, Gen.OneOf(Gen.Const(() => $"\"{LongText}\""), Gen.Int[1_000, 20_000].Select(Deep),
            Gen.Int[60, 70].Select(keys => $"{{{string.Join(',', Enumerable.Range(0, keys).Select(i => $"\"k{i}\":{i}"))}}}"))));

    /// <summary>Any JSON, and some that is none.</summary>
    public static readonly Gen<string> Json = Gen.Recursive<string>((depth, inner) => depth > 3 ? Leaf : Gen.Frequency(
        (8, Leaf),
        (1, inner.Array[0, 4].Select(items => $"[{string.Join(',', items)}]")),
        (2, Gen.Select(Nasty.Select(Text), inner).Array[0, 4]
            .Select(pairs => $"{{{string.Join(',', pairs.Select(pair => $"{pair.Item1}:{pair.Item2}"))}}}"))));

    /// <summary>A text as JSON: as it is, or escaped.</summary>
    public static string Text(string text)
    {
        // By hand: a serializer would mend what is no Unicode.
        var json = new StringBuilder("\"");
        foreach (var c in text)
        {
            _ = c is '"' or '\\' || c < ' ' || char.IsSurrogate(c)
                ? json.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}")
                : json.Append(c);
        }

        return json.Append('"').ToString();
    }

    private static string Deep(int depth) => depth % 2 == 0
        ? string.Concat(new string('[', depth), new string(']', depth))
        : string.Concat(string.Concat(Enumerable.Repeat("{\"a\":", depth)), "1", new string('}', depth));
}
