using System.Text.RegularExpressions;

namespace Sessions.Tests.Docs;

/// <summary>The pages for people: their links lead somewhere, their lines are short, and all of them are found.</summary>
public sealed partial class PagesTests
{
    private const int MaxLineLength = 140;

    private static readonly string Root = Repository.File();

    private static readonly List<string> Paths =
    [
        .. Directory.GetFiles(Root, "*.md"), .. Directory.GetFiles(Path.Combine(Root, "docs"), "*.md"),
            .. Directory.GetFiles(Path.Combine(Root, "bench"), "*.md"),
    ];

    public static TheoryData<string> Pages => [.. Paths.Select(path => Path.GetRelativePath(Root, path).Replace('\\', '/'))];

    // Results are wide tables.
    public static TheoryData<string> PagesToRead =>
        [.. Pages.Select(page => page.Data).Where(page => !page.StartsWith("bench/", StringComparison.Ordinal))];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Links_lead_to_files_and_headings_that_are_there(string page)
    {
        var path = Path.Combine(Root, page);
        foreach (Match link in Links.Matches(Code.Replace(File.ReadAllText(path), "")))
        {
            var (file, heading) = (link.Groups["file"].Value, link.Groups["heading"].Value);
            if (file.Contains("://", StringComparison.Ordinal))
            {
                continue;
            }

            var target = file.Length == 0 ? path : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, file));
            Assert.True(File.Exists(target) || Directory.Exists(target), $"{page}: {link.Value}");
            if (heading.Length > 0)
            {
                var headings = Headings(target);
                Assert.True(headings.Contains(heading), $"{page}: {link.Value} leads to none of: {string.Join(", ", headings)}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(PagesToRead))]
    public void Lines_are_short(string page)
    {
        // What a program printed stands as it was printed.
        var lines = Answers.Replace(File.ReadAllText(Path.Combine(Root, page)).ReplaceLineEndings("\n"), "").Split('\n');
        Assert.All(lines, line => Assert.True(line.Length <= MaxLineLength, line));
    }

    [Fact]
    public void The_index_has_every_page()
    {
        var index = File.ReadAllText(Path.Combine(Root, "docs", "README.md"));
        var pages = Directory.GetFiles(Path.Combine(Root, "docs"), "*.md").Select(path => Path.GetFileName(path)!)
            .Where(name => name != "README.md");
        Assert.All(pages, page => Assert.Contains($"]({page})", index, StringComparison.Ordinal));
    }

    [Fact]
    public void Pages_for_users_name_no_file_of_ours_that_is_not_there()
    {
        foreach (var path in Paths)
        {
            foreach (Match name in Named.Matches(File.ReadAllText(path)))
            {
                var file = name.Groups[1].Value;
                Assert.True(File.Exists(Path.Combine(Root, file)) || Directory.Exists(Path.Combine(Root, file)),
                    $"{Path.GetFileName(path)}: {file}");
            }
        }
    }

    // As GitHub makes them: lower case, without punctuation, hyphens for spaces.
    private static HashSet<string> Headings(string path) => [.. Heading.Matches(File.ReadAllText(path).ReplaceLineEndings("\n"))
        .Select(heading => NotInAnchors.Replace(heading.Groups[1].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'))];

    [GeneratedRegex(@"\]\((?<file>[^)#\s]*)(#(?<heading>[^)]*))?\)")]
    private static partial Regex Links { get; }

    [GeneratedRegex(@"^```.*?^```|`[^`\n]*`", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Code { get; }

    [GeneratedRegex(@"^```(json|text)?\n.*?^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Answers { get; }

    [GeneratedRegex("^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading { get; }

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchors { get; }

    [GeneratedRegex(@"`((?!deploy/\.env`)(?:deploy|Sessions\.[A-Za-z]+|bench)/[\w./-]*\w)`")]
    private static partial Regex Named { get; }
}
