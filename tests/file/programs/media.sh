# Programs that seek back, write temporary files beside their output, and read by an index.
command -v ffmpeg >/dev/null && {
ffmpeg -v error -nostdin -y -f lavfi -i testsrc=size=320x240:rate=25 -f lavfi -i sine=frequency=440 -t 3 -threads 1 -c:v libx264 -preset ultrafast -c:a aac -flags +bitexact -fflags +bitexact -movflags +faststart out.mp4; echo $?
ffmpeg -v error -nostdin -y -f lavfi -i testsrc=size=320x240:rate=25 -t 3 -threads 1 -c:v libx264 -preset ultrafast -flags +bitexact -fflags +bitexact plain.mp4; echo $?
ffmpeg -v error -nostdin -y -i out.mp4 -map_metadata -1 -c copy -fflags +bitexact out.mkv; echo $?
ffprobe -v error -show_format -show_streams out.mp4 | grep -E 'duration|nb_frames|size'
ffmpeg -v error -nostdin -i out.mp4 -f framemd5 - | tail -3
ffmpeg -v error -nostdin -ss 1 -i out.mp4 -frames:v 1 -fflags +bitexact -flags +bitexact shot.png; echo $?
}
command -v samtools >/dev/null && {
perl -e 'srand(3); print ">c\n"; for(1..40){print join("",map{("A","C","G","T")[int rand 4]}1..60),"\n"}' > r.fa; samtools faidx r.fa; cat r.fa.fai
perl -e 'srand(4); print "\@HD\tVN:1.6\n\@SQ\tSN:c\tLN:2400\n"; for(1..20000){my $p=1+int rand 2300; print join("\t","r$_",0,"c",$p,60,"50M","*",0,0,"A"x50,"I"x50),"\n"}' > a.sam
samtools view --no-PG -b -o a.bam a.sam; samtools sort --no-PG -m 1M -T tmp -o s.bam a.bam; samtools index s.bam; samtools view -c s.bam c:100-200; samtools flagstat s.bam | head -2; samtools idxstats s.bam; samtools sort --no-PG -@ 2 -o s2.bam a.bam; cmp s.bam s2.bam; samtools merge --no-PG -f m.bam s.bam s2.bam; samtools view -c m.bam; samtools view --no-PG -T r.fa -C -o s.cram s.bam; samtools view -c s.cram; samtools quickcheck s.bam; echo $?; samtools depth s.bam | md5sum; samtools split --version >/dev/null 2>&1; rm *.cram
}
