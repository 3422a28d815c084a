using System.Globalization;
using System.Text.RegularExpressions;

namespace Sessions.Tests.OpenAi;

/// <summary>What the server said without what is different each time: ids are counted, times are 0.</summary>
internal static partial class Normalized
{
    public static string Text(string text) => new Names().Text(text);

    /// <summary>Names for ids, the same for the same.</summary>
    internal sealed class Names
    {
        private readonly Dictionary<string, string> _names = [];
        private readonly Dictionary<string, int> _counts = [];

        public string Text(string text) => Times.Replace(Ids.Replace(text, match => NameOf(match.Groups[1].Value, match.Value)), "${1}0");

        private string NameOf(string prefix, string id)
        {
            if (!_names.TryGetValue(id, out var name))
            {
                var count = _counts[prefix] = _counts.GetValueOrDefault(prefix) + 1;
                _names[id] = name = string.Create(CultureInfo.InvariantCulture, $"{prefix}{count}");
            }

            return name;
        }
    }

    [GeneratedRegex(@"\b(conv_|resp_|msg_|fc_|fco_|rs_|call_|chatcmpl-)[0-9a-f]{32,}(?:[io][0-9]+)?\b")]
    private static partial Regex Ids { get; }

    [GeneratedRegex("""("(?:created_at|completed_at|created)":\s*)\d+""")]
    private static partial Regex Times { get; }
}
